"""What became of a task, in one sentence for people: what happened and what it costs.

The API, the page and `koi tasks show` say the same. English and Chinese; texts for programs stay
English (`app.api.errors`).
"""

from collections.abc import Mapping

from app.domain.job import Job, JobState, TaskStatus

ENGLISH, CHINESE = "en", "zh"

REASONS: Mapping[str, tuple[str, str]] = {
    "content_policy_violation": ("The provider refused the prompt", "上游拒绝了该提示词"),
    "empty_result": ("The provider answered without a picture", "上游的回答中没有图片"),
    "image_unavailable": (
        "The provider made the picture, but it could not be fetched",
        "上游已生成图片，但无法取回",
    ),
    "interrupted": ("The gateway stopped before it was sent", "网关在发送之前停止了"),
    "task_cancelled": ("It was cancelled before it was sent", "任务在发送之前已取消"),
    "task_expired": ("The provider no longer knows the task", "上游已不再保留该任务"),
    "upstream_ambiguous": (
        "The provider's answer was lost after the request was sent",
        "请求发出后，上游的回答丢失了",
    ),
    "upstream_auth": ("The provider refused this gateway's key", "上游拒绝了本网关的密钥"),
    "upstream_billing": (
        "This gateway's account at the provider is used up",
        "本网关在上游的余额已用完",
    ),
    "upstream_error": ("The provider failed", "上游出错"),
    "upstream_incomplete": ("The provider made fewer pictures", "上游生成的图片数量不足"),
    "upstream_invalid_response": (
        "The provider's answer could not be understood",
        "无法理解上游的回答",
    ),
    "upstream_rate_limited": ("The provider had no room for it", "上游暂时没有容量"),
    "upstream_rejected": ("The provider rejected the request", "上游拒绝了该请求"),
    "upstream_timeout": ("The provider did not finish in time", "上游未能按时完成"),
    "upstream_tls": ("The connection to the provider is not safe", "与上游的连接不安全"),
    "upstream_unreachable": ("The provider could not be reached", "无法连接上游"),
}
"""Why a task failed, by code. Any other code is told by the failure's own message."""

STATES: Mapping[TaskStatus, tuple[str, str]] = {
    TaskStatus.QUEUED: (
        "It waits to be sent to the provider; nothing is charged yet.",
        "正在等待发送给上游；尚未产生费用。",
    ),
    TaskStatus.PROCESSING: ("The provider is making it.", "上游正在生成。"),
    TaskStatus.COLLECTING: (
        "The provider has made it, which is charged; its download is tried again.",
        "上游已生成并计费；正在重试下载。",
    ),
}


ACCEPTED = ("The provider has it and has not begun yet.", "上游已收到，尚未开始。")
"""Of a queued task of the provider's: the queue is the provider's."""
SENT = ("It was sent to the provider, which has not answered yet.", "已发送给上游，尚未收到答复。")
"""Of a queued task that was sent, while nothing says that the provider has it."""


def summarize(job: Job, language: str = ENGLISH) -> str:
    """One sentence on a task; its parts never quote a prompt."""
    chosen = 1 if language == CHINESE else 0
    if not job.ended:
        if job.status is not TaskStatus.QUEUED or job.state is JobState.RESERVED:
            return STATES[job.status][chosen]
        is_accepted = any(part.upstream_id is not None for part in job.parts)
        return (ACCEPTED if is_accepted else SENT)[chosen]
    stop = "。" if chosen else "."
    between = "；" if chosen else "; "
    return f"{_what(job, chosen)}{between}{_money(job, chosen)}{stop}"


def _what(job: Job, chosen: int) -> str:
    if job.failure is None:
        count = len(job.pictures)
        made = f"{count} picture was made" if count == 1 else f"{count} pictures were made"
        return f"已生成 {count} 张图片" if chosen else made
    texts = REASONS.get(job.failure.code)
    return job.failure.message.strip().rstrip(".") if texts is None else texts[chosen]


def _money(job: Job, chosen: int) -> str:
    if job.state is JobState.UNKNOWN:
        return ("whether it is charged is not known yet", "是否计费尚不确定")[chosen]
    if not job.billed:
        return ("nothing was charged", "未产生费用")[chosen]
    images = "1 image was" if job.billed == 1 else f"{job.billed} images were"
    return (f"{images} charged", f"已计费 {job.billed} 张")[chosen]
