"""`koi keys identify`: whose keys are in a text?"""

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from app.cli.errors import EXIT_FAILED
from app.cli.options import AsJson
from app.cli.output import format_cell, format_time, print_json, print_line
from app.cli.session import run_operation

if TYPE_CHECKING:
    from app.service.people_values import IdentifiedSecret
    from app.wiring.operator import OperatorContext

MAX_CHARS = 1_000_000
NO_KEY_IN_TEXT = "There is no key of Koi in this text."


def identify(
    text: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-", /, *, json: AsJson = False
) -> int:
    """Whose keys are in a text, such as a leaked key or a line of a log; exits 1 without one.

    "-", which is the default, reads it from standard input, so that a key stays out of the shell's
    history. Nothing of the text is printed.

    Example: pbpaste | koi keys identify
             koi keys identify - < access.log
    """
    given = sys.stdin.read(MAX_CHARS) if text == "-" else text

    async def work(context: "OperatorContext") -> int:
        found = await context.people.identify(given)
        if json:
            print_json([_identified_record(one) for one in found])
        else:
            for one in found:
                print_line(format_cell(one.sentence))
            if not found:
                print_line(NO_KEY_IN_TEXT)
        return 0 if any(one.known or one.admin for one in found) else EXIT_FAILED

    return run_operation(work, changes=False)


def _identified_record(found: "IdentifiedSecret") -> dict[str, Any]:
    known, admin = found.known, found.admin
    return {
        "text": found.sentence,
        "key_id": known.key.id if known else None,
        "user": known.key.user if known else None,
        "status": known.state if known else None,
        "last_used_at": format_time(known.used_ms) if known else None,
        "admin_key_id": admin.id if admin else None,
    }
