"""The use cases of the gateway for an administrator who is held to one team."""

from dataclasses import replace

from app.domain.team_bounds import TeamBounds
from app.service.gateway import Gateway
from app.service.team_records import TeamAuditLog


def hold_to_team(gateway: Gateway, bounds: TeamBounds) -> Gateway:
    """The same gateway, whose people, keys, invitations, jobs, usage and changes are those of one
    team. Nothing else of it may be reached: the routes of the rest are closed."""
    operations = gateway.operations
    return replace(
        gateway,
        keys=gateway.keys.held_to(bounds),
        usage=gateway.usage.held_to(bounds),
        invitations=gateway.invitations.held_to(bounds),
        audit_log=TeamAuditLog(gateway.audit_log, bounds),
        operations=replace(
            operations,
            people=operations.people.held_to(bounds),
            jobs=operations.jobs.held_to(bounds),
            cancel=operations.cancel.held_to(bounds),
        ),
    )
