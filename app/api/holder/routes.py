"""Routes of the page and for holders, on one page."""

from app.api import console
from app.api.holder import account, keys, oidc, pictures, session
from app.api.holder import operations as op
from app.api.openapi import DocumentedRoute

SESSION = "/v1/koi/session"
KEYS = "/v1/koi/keys"

PAGE_ROUTES = (
    DocumentedRoute("GET", "/", console.shell, op.PAGE),
    DocumentedRoute("GET", "/console/{name}", console.asset, op.PAGE_FILE),
    DocumentedRoute("GET", "/console/{folder}/{name}", console.asset, op.PAGE_FILE_IN_FOLDER),
)
HOLDER_ROUTES = (
    DocumentedRoute("POST", SESSION, session.create, op.SIGN_IN),
    DocumentedRoute("GET", SESSION, session.read, op.READ_SESSION),
    DocumentedRoute("DELETE", SESSION, session.delete, op.SIGN_OUT),
    DocumentedRoute("GET", "/v1/koi/oidc/login", oidc.login, op.BEGIN_SIGN_IN),
    DocumentedRoute("GET", oidc.CALLBACK, oidc.callback, op.FINISH_SIGN_IN),
    DocumentedRoute("GET", "/v1/koi/account", account.read, op.READ_ACCOUNT),
    DocumentedRoute("GET", "/v1/koi/catalog", account.catalog, op.READ_CATALOG),
    DocumentedRoute("POST", "/v1/koi/limit_requests", account.request_limit, op.REQUEST_LIMIT),
    DocumentedRoute("GET", "/v1/koi/pictures", pictures.index, op.LIST_PICTURES),
    DocumentedRoute("DELETE", "/v1/images/{name}", pictures.delete, op.DELETE_PICTURE),
    DocumentedRoute("GET", KEYS, keys.index, op.LIST_OWN_KEYS),
    DocumentedRoute("POST", KEYS, keys.create, op.CREATE_OWN_KEY),
    DocumentedRoute("POST", f"{KEYS}/{{key_id}}", keys.update, op.UPDATE_OWN_KEY),
    DocumentedRoute("DELETE", f"{KEYS}/{{key_id}}", keys.delete, op.DELETE_OWN_KEY),
    DocumentedRoute("POST", f"{KEYS}/{{key_id}}/rotate", keys.rotate, op.ROTATE_OWN_KEY),
)
