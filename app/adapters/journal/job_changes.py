"""What a journal says of one job: when which of its fields changed. Its values are left to the
store: they may hold links and what a provider quotes of a prompt."""

import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.adapters.files import is_regular_file
from app.adapters.journal.reader import open_lines, parse_record
from app.domain.journal import ChangeKind, JobChange

JOB_FILE = re.compile(r"(\d{4}-\d\d-\d\d)-[0-9a-f]+\.jobs\.jsonl(?:\.gz)?")
MAX_BYTES = 1 << 30
"""How much of a journal is looked through: some seconds."""
SHOWN = {"state": "state", "upstream": "task_id", "request": "request_id"}
"""Fields whose values are ids or letters, by the name under which they are shown."""


def read_job_changes(directory: Path, job_id: str, first: str, last: str) -> list[JobChange]:
    """From the files of the days from `first` to `last` (2026-11-29), in order."""
    found = [change for file in _files(directory, first, last) for change in _read(file, job_id)]
    return sorted(found, key=lambda change: change.at_ms)


def _files(directory: Path, first: str, last: str) -> Iterator[Path]:
    left = MAX_BYTES
    for file in sorted(directory.glob("*.jobs.jsonl*")):
        name = JOB_FILE.fullmatch(file.name)
        if name is None or not first <= name[1] <= last or not is_regular_file(file):
            continue
        left -= file.stat().st_size
        if left < 0:
            return
        yield file


def _read(file: Path, job_id: str) -> Iterator[JobChange]:
    wanted = job_id.encode()
    try:
        with open_lines(file) as lines:
            for line in lines:
                if wanted in line and (record := parse_record(line)) is not None:
                    for change in record.changes:
                        if change.kind is ChangeKind.JOB and change.id == job_id:
                            yield _describe(record.at_ms, change.fields)
    except (OSError, EOFError, zlib.error):
        return


def _describe(at_ms: int, fields: Sequence[str]) -> JobChange:
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    values = {
        SHOWN[name.partition(":")[0]]: value
        for name, value in pairs.items()
        if name.partition(":")[0] in SHOWN
    }
    return JobChange(at_ms, tuple(pairs), values)
