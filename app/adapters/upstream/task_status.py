"""Status and progress of a task, in the words of the provider and of compatible ones."""

import math
import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

JsonLayers = Sequence[Mapping[str, Any]]
"""A JSON reply from the inside out: the content of its envelope, then the envelope."""


class TaskPhase(Enum):
    """What a status word means."""

    QUEUED = auto()
    PROCESSING = auto()
    COMPLETED = auto()
    FAILED = auto()
    ERRED = auto()
    """"error": the task has failed, or only this call, as some envelopes say."""
    MODERATED = auto()
    EXPIRED = auto()
    LOST = auto()
    """DashScope's UNKNOWN: the provider does not know the task."""
    UNRECOGNISED = auto()

    @property
    def is_running(self) -> bool:
        return self in (TaskPhase.QUEUED, TaskPhase.PROCESSING)


PHASE_WORDS: Mapping[TaskPhase, str] = {
    TaskPhase.QUEUED: "queued pending submitted not_start not_started created waiting scheduled "
    "in_queue ready accepted",
    TaskPhase.PROCESSING: "assigned starting started running processing in_progress generating "
    "suspended",
    TaskPhase.COMPLETED: "completed complete succeeded success succeed finished done",
    TaskPhase.FAILED: "failed failure fail cancelled canceled timeout timed_out rejected "
    "aborted request_cancelled",
    TaskPhase.ERRED: "error",
    TaskPhase.MODERATED: "moderated content_moderated request_moderated blocked nsfw",
    TaskPhase.EXPIRED: "expired",
    TaskPhase.LOST: "unknown",
}
PHASES: Mapping[str, TaskPhase] = {
    word: phase for phase, words in PHASE_WORDS.items() for word in words.split()
}
STATUS_KEYS = ("status", "task_status", "state")
PROGRESS_KEYS = ("progress", "progress_percent")
NUMBER = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(%?)\s*", re.ASCII)


def find_status_word(layers: JsonLayers) -> str | None:
    """The status word, innermost layer first. Numbers are ignored: each provider has its own."""
    for layer in layers:
        for key in STATUS_KEYS:
            word = layer.get(key)
            if isinstance(word, str) and word.strip() and not word.strip().isdigit():
                return word
    return None


def parse_phase(word: str) -> TaskPhase:
    name = re.sub(r"[\s-]+", "_", word.strip().lower()).removeprefix("task_status_")
    return PHASES.get(name, TaskPhase.UNRECOGNISED)


def find_progress(layers: JsonLayers) -> int | None:
    """Per cent of a running task, 0-99, from an integer, a fraction, text or an object."""
    for layer in layers:
        for key in PROGRESS_KEYS:
            share = _parse_percent(layer.get(key))
            if share is not None:
                return min(max(math.floor(share), 0), 99)
    return None


def _parse_percent(said: Any) -> float | None:
    if isinstance(said, bool):
        return None
    if isinstance(said, int):
        return float(min(max(said, 0), 100))
    if isinstance(said, float):
        return said * 100 if 0 <= said <= 1 else said
    if isinstance(said, str):
        return _parse_percent_text(said)
    if isinstance(said, dict):
        current, total = said.get("current"), said.get("total")
        if isinstance(current, int) and isinstance(total, int) and 0 <= current <= total > 0:
            return 100 * current / total
    return None


def _parse_percent_text(text: str) -> float | None:
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    number = float(match[1])
    return number * 100 if not match[2] and "." in match[1] and number <= 1 else number
