"""A journal of many jobs: one job goes through the real scripts, the others repeat its lines with
ids, times and names of their own, spread evenly over the days before now."""

import asyncio
import re
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.adapters.journal.file import FileJournal
from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import Command
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.images import GenerationRequest, Picture, digest
from app.domain.job import JobState, Outcome, PartResult
from app.domain.ledger import AdmissionRequest, DedupKeys
from app.domain.limits import Limits, Scope, ScopeKind
from app.domain.principal import CachePolicy, Principal
from app.settings import Settings
from app.wiring.stores import open_scripts, open_store, store

DAY_MS = 86_400_000
JOB_LINE_DAYS = 30
"""Job records are swept from journals with their pictures, after `KOI_IMAGE_TTL_DAYS`."""
USERS, TEAMS, MODELS = 200, 10, ("grok-imagine", "gpt-image-1", "flux-pro")
SIZES = ("1024x1024", "1536x1024", "1024x1536")
JOB, KEY, USER, TEAM = (
    "task_TEMPLATEJOB00000000000000",
    "key_TEMPLATE",
    "usr-template",
    "tm-template",
)
MODEL, SIZE, UPSTREAM, REQUEST = (
    "mdl-template",
    "7777x7777",
    "up_TEMPLATE0000000000",
    "req_TEMPLATE00",
)
PICTURE, BODY = "img_TEMPLATEPICTURE0000000000000000", "b0d7" * 16
ATTEMPT = digest(KEY, BODY)
FIRST_SEQ = 900_000_000
"""The template's sequence numbers are found in its lines by their length."""
SET_SEQUENCE = Command("set_sequence", "SET", writes=True)
PROMPT = "A koi in a nebula, painted with a wide brush in the colours of a late evening in November"


@dataclass(frozen=True, slots=True)
class Template:
    """The lines of one job cut at every value that differs from job to job."""

    books: tuple[bytes, ...]
    jobs: tuple[bytes, ...]
    seqs: int
    day: str
    times: Sequence[int]
    entry: str


async def record_template(settings: Settings) -> Template:
    """Take one job through the ledger of an empty store, and read what the journal has of it."""
    with tempfile.TemporaryDirectory(prefix="koi") as directory:
        async with AsyncExitStack() as stack:
            urls = stack.enter_context(store(settings))
            journal = FileJournal(Path(directory))
            scripts = open_scripts(open_store(stack, settings, urls.ledger), journal, settings)
            await scripts.open()
            await scripts.command(SET_SEQUENCE, keyspace.SEQUENCE, FIRST_SEQ)
            await run_job(scripts)
            job = await RedisLedger(scripts, task_ttl_s=86_400, image_ttl_s=86_400).job(JOB)
            assert job is not None
            entry = await anext(id async for id, _ in scripts.entries())
            journal.close()
        assert job.dispatched_ms is not None
        assert job.ended_ms is not None
        lines = {
            kind: b"".join(file.read_bytes() for file in Path(directory).glob(f"*.{kind}.jsonl"))
            for kind in ("books", "jobs")
        }
    seqs = {int(found) for found in re.findall(rb'"seq":(\d+)', lines["books"])}
    return Template(
        books=tuple(line for line in lines["books"].splitlines() if JOB.encode() in line),
        jobs=tuple(lines["jobs"].splitlines()),
        seqs=max(seqs) - FIRST_SEQ,
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        times=(job.created_ms, job.dispatched_ms, job.ended_ms),
        entry=entry,
    )


async def run_job(scripts: LedgerScripts) -> None:
    ledger = RedisLedger(scripts, task_ttl_s=86_400, image_ttl_s=30 * 86_400)
    scopes = [Scope(ScopeKind.KEY, KEY, Limits()), Scope(ScopeKind.USER, USER, Limits())]
    scopes += [Scope(ScopeKind.TEAM, TEAM, Limits()), Scope(ScopeKind.HOUSE, "house", Limits())]
    request = GenerationRequest(MODEL, PROMPT, 1, SIZE, "standard")
    await ledger.admit(
        AdmissionRequest(
            job_id=JOB,
            principal=Principal(KEY, USER, TEAM, tuple(scopes), CachePolicy.PRIVATE),
            request=request,
            part_sizes=(1,),
            unit_micros=40_000,
            dedup_keys=DedupKeys(BODY, caller_id=JOB),
            lease_ms=60_000,
            request_id=REQUEST,
        )
    )
    await asyncio.sleep(0.02)
    await ledger.dispatch(JOB, 60_000)
    await asyncio.sleep(0.02)
    await ledger.record_part(JOB, 0, upstream_id=UPSTREAM, request_id=REQUEST, due_ms=60_000)
    picture = Picture(PICTURE, "image/png", 1024, 1024, revised_prompt=PROMPT)
    result = PartResult(images=1, pictures=(picture,))
    await ledger.record_part(JOB, 0, result=result, due_ms=60_000)
    await asyncio.sleep(0.02)
    outcome = Outcome(JobState.SETTLED, billed=1, pictures=(picture,), calls=(UPSTREAM,))
    await ledger.settle(JOB, outcome)


def write_journal(directory: Path, template: Template, jobs: int, days: int) -> None:
    """Append `jobs` jobs to day files in `directory`, the last of them an hour ago."""
    directory.mkdir(parents=True, exist_ok=True)
    epoch, process = secrets.token_hex(16), secrets.token_hex(4)
    now_ms = int(time.time() * 1000)
    first_ms, step = now_ms - days * DAY_MS, (days * DAY_MS - DAY_MS // 24) / jobs
    books, details = _Cut(template, template.books, epoch), _Cut(template, template.jobs, epoch)
    chunks: dict[Path, list[bytes]] = {}
    for number in range(jobs):
        at_ms = int(first_ms + number * step)
        day = f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"
        values = _values(template, number, at_ms, day)
        name = directory / f"{day}-{process}"
        chunks.setdefault(name.with_suffix(".books.jsonl"), []).append(books.fill(values))
        if now_ms - at_ms < JOB_LINE_DAYS * DAY_MS:
            chunks.setdefault(name.with_suffix(".jobs.jsonl"), []).append(details.fill(values))
        if len(chunks) > 4:
            _flush(chunks)
    _flush(chunks)


def _flush(chunks: dict[Path, list[bytes]]) -> None:
    for path, lines in chunks.items():
        with path.open("ab") as file:
            file.writelines(lines)
    chunks.clear()


def _values(template: Template, number: int, at_ms: int, day: str) -> dict[bytes, bytes]:
    """What to write instead of each value of the template."""
    user = number * 7 % USERS
    texts = {
        JOB: f"task_{number:025d}",
        KEY: f"key_{user:08d}",
        USER: f"user-{user:07d}",
        TEAM: f"team-{user % TEAMS:06d}",
        MODEL: MODELS[number % len(MODELS)],
        SIZE: SIZES[number // 5 % len(SIZES)],
        UPSTREAM: f"up_{number:019d}",
        REQUEST: f"req_{number:010d}",
        PICTURE: f"img_{number:032d}",
        ATTEMPT: f"{number:064x}",
        template.day: day,
        template.day[:7]: day[:7],
        template.entry: f"{at_ms + 60}-{number % 1000}",
    }
    began = template.times[0]
    texts |= {str(when): str(at_ms + when - began) for when in template.times}
    for index in range(1, template.seqs + 1):
        texts[str(FIRST_SEQ + index)] = str(number * template.seqs + index)
    return {old.encode(): new.encode() for old, new in texts.items()}


class _Cut:
    """Lines cut into fixed text and values, so that filling them in is one join."""

    def __init__(self, template: Template, lines: Sequence[bytes], epoch: str) -> None:
        text = b"".join(line + b"\n" for line in lines)
        text = re.sub(rb'"epoch":"[0-9a-f]{32}"', b'"epoch":"%s"' % epoch.encode(), text)
        known = sorted(_values(template, 0, template.times[0], template.day), key=len, reverse=True)
        self._pieces = re.split(b"(" + b"|".join(map(re.escape, known)) + b")", text)

    def fill(self, values: dict[bytes, bytes]) -> bytes:
        return b"".join(
            [values[piece] if odd % 2 else piece for odd, piece in enumerate(self._pieces)]
        )
