"""Every route of the administration API, on one page."""

from collections.abc import Iterator, Sequence

from app.api.openapi import DocumentedRoute
from app.api.operations import Operation
from app.api.organization import (
    admin_keys,
    api_keys,
    audit_logs,
    backups,
    invitations,
    money,
    people,
    projects,
    raises,
    service_accounts,
    spend_alerts,
    spending,
    usage,
    users,
)
from app.api.organization import invitation_operations as inv
from app.api.organization import limit_operations as lim
from app.api.organization import operations as op
from app.api.organization.access import Endpoint

ROOT = "/v1/organization"
PROJECTS = f"{ROOT}/projects"
PROJECT = f"{PROJECTS}/{{project_id}}"
ACCOUNTS = f"{PROJECT}/service_accounts"
ACCOUNT = f"{ACCOUNTS}/{{service_account_id}}"
ACCOUNT_KEYS = f"{ACCOUNT}/api_keys"
HOUSE_BUDGET = f"{ROOT}/spend_limit"
MEMBERS = f"{PROJECT}/users"
MEMBER = f"{MEMBERS}/{{user_id}}"
KEYS = f"{PROJECT}/api_keys"
KEY = f"{KEYS}/{{api_key_id}}"
RATES = f"{PROJECT}/rate_limits"
RATE = f"{RATES}/{{rate_limit_id}}"
BUDGET = f"{PROJECT}/spend_limit"
MODELS = f"{PROJECT}/model_permissions"
USERS = f"{ROOT}/users"
USER = f"{USERS}/{{user_id}}"
ADMIN_KEYS = f"{ROOT}/admin_api_keys"
ADMIN_KEY = f"{ADMIN_KEYS}/{{key_id}}"
KOI = "/v1/koi"
SPENDING = f"{KOI}/spending"
INVITATIONS = f"{KOI}/invitations"
INVITATION = f"{INVITATIONS}/{{invitation_id}}"
ACCEPT_INVITATION = f"{INVITATIONS}/accept"
KOI_USER = f"{KOI}/users/{{user_id}}"
USER_KEYS = f"{KOI_USER}/api_keys"
ANY_KEY = f"{KOI}/api_keys/{{api_key_id}}"
KOI_PROJECT = f"{KOI}/projects/{{project_id}}"

HOUSE_ALERTS = (
    spend_alerts.index,
    spend_alerts.create,
    spend_alerts.read,
    spend_alerts.update,
    spend_alerts.delete,
)
PROJECT_ALERTS = (
    spend_alerts.index_project,
    spend_alerts.create_project,
    spend_alerts.read_project,
    spend_alerts.update_project,
    spend_alerts.delete_project,
)


def _alert_routes(
    path: str, handlers: Sequence[Endpoint], operations: Sequence[Operation]
) -> Iterator[DocumentedRoute]:
    """List, create, retrieve, update and delete spend alerts."""
    one = f"{path}/{{alert_id}}"
    places = (("GET", path), ("POST", path), ("GET", one), ("POST", one), ("DELETE", one))
    for (method, where), handler, operation in zip(places, handlers, operations, strict=True):
        yield DocumentedRoute(method, where, handler, operation)


# fmt: off
ORGANIZATION_ROUTES = (
    DocumentedRoute("GET", PROJECTS, projects.index, op.LIST_PROJECTS),
    DocumentedRoute("POST", PROJECTS, projects.create, op.CREATE_PROJECT),
    DocumentedRoute("GET", PROJECT, projects.read, op.READ_PROJECT),
    DocumentedRoute("POST", PROJECT, projects.update, op.UPDATE_PROJECT),
    DocumentedRoute("POST", f"{PROJECT}/archive", projects.archive, op.ARCHIVE_PROJECT),
    DocumentedRoute("GET", MEMBERS, users.index_project, op.LIST_PROJECT_USERS),
    DocumentedRoute("POST", MEMBERS, users.create_project_user, op.CREATE_PROJECT_USER),
    DocumentedRoute("GET", MEMBER, users.read_project_user, op.READ_PROJECT_USER),
    DocumentedRoute("POST", MEMBER, users.update_project_user, op.UPDATE_PROJECT_USER),
    DocumentedRoute("DELETE", MEMBER, users.delete_project_user, op.DELETE_PROJECT_USER),
    DocumentedRoute("GET", ACCOUNTS, service_accounts.index, op.LIST_ACCOUNTS),
    DocumentedRoute("POST", ACCOUNTS, service_accounts.create, op.CREATE_ACCOUNT),
    DocumentedRoute("GET", ACCOUNT, service_accounts.read, op.READ_ACCOUNT),
    DocumentedRoute("POST", ACCOUNT, service_accounts.update, op.UPDATE_ACCOUNT),
    DocumentedRoute("DELETE", ACCOUNT, service_accounts.delete, op.DELETE_ACCOUNT),
    DocumentedRoute("POST", ACCOUNT_KEYS, service_accounts.create_key, op.CREATE_ACCOUNT_KEY),
    DocumentedRoute("GET", KEYS, api_keys.index, op.LIST_KEYS),
    DocumentedRoute("GET", KEY, api_keys.read, op.READ_KEY),
    DocumentedRoute("POST", KEY, api_keys.update, op.UPDATE_KEY),
    DocumentedRoute("DELETE", KEY, api_keys.delete, op.DELETE_KEY),
    DocumentedRoute("GET", RATES, money.index_rate_limits, op.LIST_RATE_LIMITS),
    DocumentedRoute("POST", RATE, money.update_rate_limit, op.UPDATE_RATE_LIMIT),
    DocumentedRoute("GET", BUDGET, money.read_spend_limit, op.READ_SPEND_LIMIT),
    DocumentedRoute("POST", BUDGET, money.update_spend_limit, op.UPDATE_SPEND_LIMIT),
    DocumentedRoute("DELETE", BUDGET, money.delete_spend_limit, op.DELETE_SPEND_LIMIT),
    DocumentedRoute("GET", MODELS, money.read_models, op.READ_MODELS),
    DocumentedRoute("POST", MODELS, money.update_models, op.UPDATE_MODELS),
    DocumentedRoute("DELETE", MODELS, money.delete_models, op.DELETE_MODELS),
    DocumentedRoute("GET", USERS, users.index, op.LIST_USERS),
    DocumentedRoute("GET", USER, users.read, op.READ_USER),
    DocumentedRoute("POST", USER, users.update, op.UPDATE_USER),
    DocumentedRoute("DELETE", USER, users.delete, op.DELETE_USER),
    DocumentedRoute("GET", ADMIN_KEYS, admin_keys.index, op.LIST_ADMIN_KEYS),
    DocumentedRoute("POST", ADMIN_KEYS, admin_keys.create, op.CREATE_ADMIN_KEY),
    DocumentedRoute("GET", ADMIN_KEY, admin_keys.read, op.READ_ADMIN_KEY),
    DocumentedRoute("DELETE", ADMIN_KEY, admin_keys.delete, op.DELETE_ADMIN_KEY),
    *_alert_routes(f"{ROOT}/spend_alerts", HOUSE_ALERTS, lim.HOUSE_ALERTS),
    *_alert_routes(f"{PROJECT}/spend_alerts", PROJECT_ALERTS, lim.PROJECT_ALERTS),
    DocumentedRoute("GET", f"{KOI}/spend_alerts", spend_alerts.index_all, lim.ALL_ALERTS),
    DocumentedRoute("GET", HOUSE_BUDGET, money.read_house_limit, op.READ_HOUSE_LIMIT),
    DocumentedRoute("GET", f"{ROOT}/audit_logs", audit_logs.index, op.LIST_AUDIT_LOGS),
    DocumentedRoute("GET", f"{ROOT}/usage/images", usage.images, op.USAGE_IMAGES),
    DocumentedRoute("GET", f"{ROOT}/costs", usage.costs, op.USAGE_COSTS),
    DocumentedRoute("POST", f"{KOI}/users", people.create_user, op.CREATE_USER),
    DocumentedRoute("GET", USER_KEYS, people.index_keys, op.LIST_USER_KEYS),
    DocumentedRoute("POST", USER_KEYS, people.create_key, op.CREATE_USER_KEY),
    DocumentedRoute("DELETE", ANY_KEY, people.delete_key, op.REVOKE_KEY),
    DocumentedRoute("POST", f"{ANY_KEY}/rotate", people.rotate_key, op.ROTATE_KEY),
    DocumentedRoute("DELETE", KOI_PROJECT, people.delete_project, op.DELETE_PROJECT),
    DocumentedRoute("POST", f"{KOI_PROJECT}/restore", people.restore_project, op.RESTORE_PROJECT),
    DocumentedRoute("POST", f"{KOI_USER}/raise", raises.create_user, lim.RAISE_USER),
    DocumentedRoute("DELETE", f"{KOI_USER}/raise", raises.delete_user, lim.END_USER_RAISE),
    DocumentedRoute("POST", f"{KOI_PROJECT}/raise", raises.create_project, lim.RAISE_PROJECT),
    DocumentedRoute("DELETE", f"{KOI_PROJECT}/raise", raises.delete_project, lim.END_PROJECT_RAISE),
    DocumentedRoute("POST", f"{ANY_KEY}/raise", raises.create_key, lim.RAISE_KEY),
    DocumentedRoute("DELETE", f"{ANY_KEY}/raise", raises.delete_key, lim.END_KEY_RAISE),
    DocumentedRoute("GET", INVITATIONS, invitations.index, inv.LIST_INVITATIONS),
    DocumentedRoute("POST", INVITATIONS, invitations.create, inv.CREATE_INVITATION),
    DocumentedRoute("DELETE", INVITATION, invitations.delete, inv.REVOKE_INVITATION),
    DocumentedRoute("GET", f"{KOI}/backups/latest", backups.latest, op.READ_BACKUP),
    DocumentedRoute("POST", f"{KOI}/backups", backups.create, op.DOWNLOAD_BACKUP),
    DocumentedRoute("GET", SPENDING, spending.read, op.READ_SPENDING),
    DocumentedRoute("POST", SPENDING, spending.update, op.UPDATE_SPENDING),
)
# fmt: on
INVITED_ROUTES = (
    DocumentedRoute("POST", ACCEPT_INVITATION, invitations.accept, inv.ACCEPT_INVITATION),
)
"""Of those who have no key yet."""
