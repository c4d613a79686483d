"""How an audit of the ledger is shown."""

from typing import Any

from app.cli.output import print_fields, print_line, print_table
from app.domain.ledger import LedgerAudit


def audit_record(audit: LedgerAudit) -> dict[str, Any]:
    return {
        "entries": audit.entries,
        "open_jobs": audit.open_jobs,
        "counters": audit.counters,
        "difference": audit.difference,
        **({"unread": list(audit.unread)} if audit.unread else {}),
        "differences": [
            {
                "scope": found.scope,
                "window": found.window,
                "field": found.field,
                "counter": found.counter,
                "ledger": found.ledger,
            }
            for found in audit.differences
        ],
    }


def print_audit(audit: LedgerAudit) -> None:
    if audit.differences:
        rows = [(d.scope, d.window, d.field, d.counter, d.ledger) for d in audit.differences]
        print_table(("scope", "window", "field", "counter", "ledger"), rows)
        print_line()
    print_fields(
        {
            "entries": audit.entries,
            "open jobs": audit.open_jobs,
            "counters": audit.counters,
            "difference": audit.difference,
        }
    )
    if audit.unread:
        print_line(
            f"Not read: {', '.join(audit.unread)}. Their entries left the store, and their files "
            "are in the journal directories of other machines; run this there, too."
        )
