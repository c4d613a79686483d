"""One sentence on a task says what is known of it, and no more."""

import pytest

from app.domain.job import Job, JobPart, JobState, TaskStatus
from app.domain.task_words import summarize

PARTS = (JobPart(1),)
ACCEPTED = (JobPart(1), JobPart(1, upstream_id="task_1"))


@pytest.mark.parametrize(
    ("state", "parts", "english", "chinese"),
    [
        (JobState.RESERVED, PARTS, "It waits to be sent to the provider", "正在等待发送给上游"),
        (JobState.DISPATCHED, PARTS, "which has not answered yet", "尚未收到答复"),
        (JobState.DISPATCHED, ACCEPTED, "The provider has it and has not begun", "上游已收到"),
    ],
)
def test_a_queued_task_is_the_provider_s_once_that_has_said_so(
    state: JobState, parts: tuple[JobPart, ...], english: str, chinese: str
) -> None:
    job = Job(
        id="task_0", key_id="key_0", user="ann", team=None, pool="user:ann", model="m", n=1,
        size="1x1", quality="hd", unit_micros=None, created_ms=1, parts=parts, state=state,
        status=TaskStatus.QUEUED,
    )  # fmt: skip

    assert english in summarize(job)
    assert chinese in summarize(job, "zh")
