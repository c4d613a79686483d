"""What scripts may answer, and what becomes of an answer that none of them should give.

A script that did what it was asked answers with a word and named fields. One that could not answers
with an error reply: a code, which the scripts know as `E.<name>`, and named fields. Each script's
header lists both. Anything else is a bug of ours: it is logged, and the caller gets a 500.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import structlog

Fields = Mapping[str, Any]


class ErrorCode(IntEnum):
    """Why a script did not do what it was asked. It changed nothing then."""

    DATA_LOST = 1
    """The store does not know what the caller has seen of it."""
    CLOCK_SKEW = 2
    """None of the days sent holds the store's time: `now_ms`."""
    JOB_MISSING = 3
    RATE_LIMITED = 4
    """`scope` is refused for `seconds`; `limit` names the rate if it is not requests a minute."""
    KEY_REUSED = 5
    """The Idempotency-Key came with another body before."""
    POSSIBLE_DUPLICATE = 6
    """It may repeat one of `calls`, whose callers must be asked first."""
    SPENDING_STOPPED = 7
    """An operator stopped `scope` for a `reason`."""
    QUOTA_EXCEEDED = 8
    """`scope` has not enough left: `kind`, `label`, `limit`, `used`, `held`, `ends_ms`."""
    SLOTS_TAKEN = 9
    """`scope` runs as many jobs as it may; one should end in `wait_ms`."""
    TOO_MANY_REFUSALS = 10
    """The user's share of free refusals is used up for `wait_ms`."""
    OUTCOME_INVALID = 11
    """The books cannot take this outcome: `why`."""
    COUNTER_NEGATIVE = 12
    """The correction would leave `scope_key` below zero in the window `label`."""
    TASK_UNKNOWN = 13
    """The page is to follow a task that the user does not have."""
    LEDGER_OPEN = 14
    """Nothing is restored into a ledger that is in use."""


class ScriptError(Exception):
    """A script's error reply, for the adapter that called it to explain."""

    def __init__(self, script: str, code: ErrorCode, fields: Fields) -> None:
        super().__init__(f"{script}: {code.name}")
        self.code, self.fields = code, fields


class UnexpectedReply(Exception):
    """A script answered what its header does not name: a bug of ours, not the caller's mistake."""


_E = ErrorCode
_ADMISSION_ERRORS = (_E.RATE_LIMITED, _E.KEY_REUSED, _E.POSSIBLE_DUPLICATE)
STATUSES: Mapping[str, tuple[str | ErrorCode, ...]] = {
    "abandon": ("abandoned", "held", "missing"),
    "add_webhook": ("added", "told", "full", "missing"),
    "adjust": ("adjusted", _E.COUNTER_NEGATIVE),
    "admit": (
        "opened", "joined", "known", *_ADMISSION_ERRORS, _E.SPENDING_STOPPED, _E.QUOTA_EXCEEDED,
        _E.SLOTS_TAKEN, _E.TOO_MANY_REFUSALS,
    ),
    "bind_idempotency_key": ("bound", "full", "missing"),
    "check_rate_limit": ("counted", *_ADMISSION_ERRORS),
    "claim": ("claimed",),
    "claim_collections": ("claimed",),
    "dispatch": ("dispatched", "kept"),
    "delete_picture": ("deleted", "missing"),
    "end_session": ("ended",),
    "find_session": ("known", "unknown"),
    "lookup_key": ("known", "unknown"),
    "record_collection": ("collected", _E.JOB_MISSING),
    "record_part": ("recorded", "taken", "ended", _E.JOB_MISSING),
    "register_journal": ("registered",),
    "reschedule": ("rescheduled",),
    "save_receipts": ("saved",),
    "save_session": ("saved",),
    "save_record": ("written", "kept", "changed", "taken"),
    "settle": ("settled", "again", "kept", _E.JOB_MISSING, _E.OUTCOME_INVALID),
}  # fmt: skip
"""What each writing script of the ledger may answer. `DATA_LOST` and `CLOCK_SKEW` are dealt with
where the scripts are run."""

PLAIN_REPLIES: Mapping[str, tuple[type, ...]] = {
    "check_writable": (str,),
    "evict": (int,),
    "fill": (int,),
    "register_gateway": (str,),
    "acquire_polls": (int,),
    "refund_polls": (int,),
    "restore": (int,),
    "finish_rebuild": (int,),
    "save_rollup": (int,),
}
"""Scripts that answer with a single value; all others answer with named fields."""


def check_fields(script: str, reply: Any) -> Any:
    """The reply of a script without a status: named fields, or its single value.

    Raises `ScriptError`, `UnexpectedReply`."""
    if isinstance(reply, PLAIN_REPLIES.get(script, (dict,))):
        return reply
    match reply:
        case [int(code), _, _, dict(fields)] if code in ErrorCode.__members__.values():
            raise ScriptError(script, ErrorCode(code), fields)
    raise unexpected_reply(script, reply)


def check_status(script: str, status: Any, fields: Fields) -> tuple[str, Fields]:
    """What a writing script answered. Raises `ScriptError`, `UnexpectedReply`."""
    if status not in STATUSES[script]:
        raise unexpected_reply(script, status)
    if isinstance(status, int):
        raise ScriptError(script, ErrorCode(status), fields)
    return status, fields


def unexpected_reply(script: str, reply: Any) -> UnexpectedReply:
    """Logs the script's name and the first word of its reply: the rest may quote a caller."""
    first = reply[0] if isinstance(reply, list) and reply else reply
    word = str(first)[:40] if isinstance(first, str | int) else type(first).__name__
    structlog.get_logger("koi.store").error("unexpected_reply", script=script, word=word)
    return UnexpectedReply(f"the script {script} answered {word!r}, which its header does not name")


def lua_error_codes() -> str:
    """`E`: what the scripts call each code."""
    return f"local E={{{','.join(f'{code.name.lower()}={code.value}' for code in ErrorCode)}}}"
