"""What a failed exchange with the store means, as a short word for metrics.

Only failures of the store are translated: an error of a script is our own bug and is raised as is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions
from redis.exceptions import RedisError

WRITE_REFUSALS = frozenset({"oom", "misconf", "noreplicas"})
"""The store answers and reads but takes no writes now: no reason to open the breaker."""

MIGRATING_KEY_MESSAGE = "access a non local key"
"""A script met a key that is not on this node while its cluster slot is being moved."""

_KIND_BY_TYPE: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "auth"),
    (exceptions.AuthenticationWrongNumberOfArgsError, "auth"),
    (exceptions.NoPermissionError, "auth"),
    (exceptions.BusyLoadingError, "loading"),
    (exceptions.ReadOnlyError, "readonly"),
    (exceptions.OutOfMemoryError, "oom"),
    (exceptions.MasterDownError, "masterdown"),
    (exceptions.ClusterDownError, "clusterdown"),
    (exceptions.TryAgainError, "clusterdown"),
    (exceptions.AskError, "clusterdown"),
    (exceptions.MaxConnectionsError, "pool"),
    (exceptions.TimeoutError, "timeout"),
    (exceptions.ConnectionError, "connection"),
    (exceptions.InvalidResponse, "connection"),
    (TimeoutError, "timeout"),
    (OSError, "connection"),
)
_KIND_BY_CODE = {
    "BUSY": "busy",
    "LOADING": "loading",
    "MASTERDOWN": "masterdown",
    "MISCONF": "misconf",
    "NOAUTH": "auth",
    "NOPERM": "auth",
    "NOREPLICAS": "noreplicas",
    "OOM": "oom",
    "READONLY": "readonly",
    "UNBLOCKED": "readonly",
    "UNKILLABLE": "busy",
    "WRONGPASS": "auth",
}
DEMOTED_ERRORS = (exceptions.ReadOnlyError, exceptions.MasterDownError)
"""Answers of a server that stopped being the primary: a new connection may find the new one."""
_TYPE_BY_CODE: dict[str, type[exceptions.ResponseError]] = {
    "ASK": exceptions.AskError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "MASTERDOWN": exceptions.MasterDownError,
    "MOVED": exceptions.MovedError,
    "NOSCRIPT": exceptions.NoScriptError,
    "READONLY": exceptions.ReadOnlyError,
    "TRYAGAIN": exceptions.TryAgainError,
}
"""Error replies that are acted on; all others are told apart by their text."""


def read_error(text: str) -> exceptions.ResponseError:
    """An error reply as an exception."""
    code, _, rest = text.partition(" ")
    type_ = _TYPE_BY_CODE.get(code)
    return exceptions.ResponseError(text) if type_ is None else type_(rest)


@contextmanager
def translate_resets() -> Iterator[None]:
    """Raise `ConnectionError` where uvloop raises `RuntimeError`: for a write to a connection that
    was reset since the last read."""
    try:
        yield
    except RuntimeError as error:
        raise read_reset(error) from error


def read_reset(error: RuntimeError) -> exceptions.ConnectionError:
    """The same for one error; raises it when it says something else."""
    if "handler is closed" not in str(error):
        raise error
    return exceptions.ConnectionError(str(error))


def classify_error(error: Exception) -> str | None:
    """The kind of failure of the store; None when the error is not the store's."""
    if type(error) is exceptions.ConnectionError and isinstance(error.__cause__, RedisError):
        # What the server said while the connection was being made: a wrong password, loading.
        error = error.__cause__
    for type_, kind in _KIND_BY_TYPE:
        if isinstance(error, type_):
            return kind
    if isinstance(error, exceptions.ResponseError):
        if MIGRATING_KEY_MESSAGE in str(error):
            return "clusterdown"
        code, _, rest = str(error).partition(" ")
        return _KIND_BY_CODE.get(code.lstrip("-")) or _KIND_BY_CODE.get(
            rest.partition(" ")[0].lstrip("-")
        )
    return None
