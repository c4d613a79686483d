"""The answers so far, in a file that survives kill -9: one JSON line for each thing that happened.

A question that may cost something is written as `sent` before its request leaves, and is never sent
again, whatever happened to the answer.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Record: TypeAlias = Mapping[str, Any]

ANSWERS_FILE = "answers.jsonl"
PAID_KINDS = ("task", "images", "unclear")
BILLED_ANYWAY = frozenset({"refused_prompt"})
"""Questions whose refusal some providers charge for."""


class ProbeRunning(Exception):
    """Another probe writes into the same directory."""


class Answers:
    """All records of one directory; open it with `with`. Raises `ProbeRunning`, `OSError`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(directory / ANSWERS_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise ProbeRunning from None
        self.records: list[Record] = []
        self._load((directory / ANSWERS_FILE).read_bytes())

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def _load(self, content: bytes) -> None:
        for line in content.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the last line of a process that was killed while it wrote
            if isinstance(record, dict):
                self.records.append(record)
        if content and not content.endswith(b"\n"):
            os.write(self._fd, b"\n")

    def add(self, event: str, **fields: Any) -> Record:
        """Written and synced before this returns."""
        record = {"event": event, **fields}
        os.write(self._fd, json.dumps(record, ensure_ascii=False).encode() + b"\n")
        os.fsync(self._fd)
        self.records.append(record)
        return record

    def find(self, event: str, question: str | None = None) -> Record | None:
        """The latest record of this kind."""
        found = self.all(event, question)
        return found[-1] if found else None

    def all(self, event: str, question: str | None = None) -> list[Record]:
        return [
            record
            for record in self.records
            if record["event"] == event and question in (None, record.get("question"))
        ]

    def answer(self, question: str) -> Record | None:
        """The reply to a question, None when there is none."""
        return self.find("answered", question)

    def result(self, question: str) -> Record | None:
        """The reply that shows the images or the failure, with what is known of its images: the
        last poll of a task, else the answer."""
        polled = self.find("polled", question)
        if polled is not None and polled["kind"] != "task":
            return polled
        answer = self.answer(question)
        if answer is None or answer["kind"] == "task":
            return None
        seen = self.find("pictures", question)
        return {**answer, "images": [] if seen is None else seen["images"]}

    def was_sent(self, question: str) -> bool:
        """Whether a byte of it may have reached the provider."""
        return len(self.all("sent", question)) > len(self.all("unsent", question))

    @property
    def poll_path(self) -> str:
        """Where tasks are read, as far as it is known."""
        found = self.find("poll_path")
        return "tasks/{}" if found is None else str(found["path"])

    @property
    def images_paid(self) -> int:
        """Images that were paid for, or may have been: what was sent and not refused."""
        return sum(images for _, images in self.costs())

    def costs(self) -> Iterator[tuple[str, int]]:
        """Each question that was sent, and its images by that count."""
        sent = {str(record["question"]): int(record["images"]) for record in self.all("sent")}
        for name, images in sent.items():
            answer = self.answer(name)
            refused = answer is not None and answer["kind"] not in PAID_KINDS
            refused = refused and name not in BILLED_ANYWAY
            if self.was_sent(name):
                yield name, 0 if refused else images
