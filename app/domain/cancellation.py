"""Whether a task was told to end."""

import asyncio


def is_being_cancelled() -> bool:
    """Whether this task was told to end. An error while a connection is closed may take the place
    of the cancellation that closed it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
