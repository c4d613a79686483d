"""Whether a task was told to end, for loops whose libraries may lose that."""

import asyncio


def raise_if_cancelled(cause: BaseException | None = None) -> None:
    """Raise `CancelledError` when this task was told to end and is still running.

    A cancellation is lost in an error while its connection is closed, and before Python 3.12 in
    `asyncio.wait_for`, by which the Redis library sends commands, when the result came at the same
    moment. A loop that goes on after that would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from cause
