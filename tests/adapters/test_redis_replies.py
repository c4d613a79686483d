"""Whatever a script answers that its header does not name is an internal error, and says so."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from store_rig import scripts_on
from structlog.testing import capture_logs

from app.adapters.embedded import EmbeddedStore
from app.adapters.redis import keyspace
from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.scripts import build_script, load_scripts
from app.adapters.redis.replies import PLAIN_REPLIES, STATUSES, ErrorCode, UnexpectedReply
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter, UpstreamLimits
from app.domain.cache import CacheControl
from app.domain.images import digest
from tests.harness import KOI, gateway, quick_sandbox

FOLDER = Path(keyspace.__file__).parent / "scripts"
GIBBERISH = "#!lua\nreturn { 'gibberish', '0', {}, { map = {} } }"
WRONG_CODE = "#!lua\nreturn { 9999, '0', {}, { map = {} } }"
ANOTHERS_CODE = f"#!lua\nreturn {{ {ErrorCode.LEDGER_OPEN:d}, '0', {{}}, {{ map = {{}} }} }}"
NO_SHAPE = "#!lua\nreturn { 'gibberish' }"


def plant(monkeypatch: pytest.MonkeyPatch, folder: str, name: str, body: str) -> None:
    """Exchange a script's text: the store runs what a wrong version of it would be."""
    scripts: Any = load_scripts(folder)
    monkeypatch.setitem(scripts, name, build_script(name, body))


@pytest.mark.parametrize("body", [GIBBERISH, WRONG_CODE, ANOTHERS_CODE, NO_SHAPE])
@pytest.mark.parametrize("name", STATUSES)
async def test_a_writing_script_that_answers_something_else(
    store: BatchingStore, monkeypatch: pytest.MonkeyPatch, name: str, body: str
) -> None:
    plant(monkeypatch, "ledger", name, body)

    with capture_logs() as logs, pytest.raises(UnexpectedReply, match=name):
        await scripts_on(store).write(name, {})
    [line] = [line for line in logs if line["event"] == "unexpected_reply"]
    word = str(ErrorCode.LEDGER_OPEN.value) if body == ANOTHERS_CODE else None
    assert line["script"] == name
    assert line["word"] == word or line["word"] in ("gibberish", "9999")


READING = sorted(load_scripts("ledger").keys() - STATUSES.keys())


@pytest.mark.parametrize("name", READING)
async def test_a_reading_script_that_answers_something_else(
    store: BatchingStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plant(monkeypatch, "ledger", name, NO_SHAPE)

    with pytest.raises(UnexpectedReply, match=f"{name} answered 'gibberish'"):
        await scripts_on(store).run(name)


async def test_a_cache_that_answers_something_else(
    store: BatchingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "cache", "look_up", "#!lua\nreturn { map = { outcome = 'gibberish' } }")
    cache = RedisResultCache(store, ttl_s=60, variants=1, lease_s=60)

    with pytest.raises(UnexpectedReply, match="look_up answered 'gibberish'"):
        await cache.look_up(digest("any"), "job", CacheControl())


async def test_a_limiter_that_answers_something_else(
    store: BatchingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "upstream", "acquire", NO_SHAPE)
    limiter = RedisUpstreamLimiter(store, UpstreamLimits(concurrency=1))

    with pytest.raises(UnexpectedReply, match="acquire answered 'gibberish'"):
        await limiter.acquire("job", 1, 1)


@pytest.mark.parametrize(
    ("folder", "script"), [("ledger", "admit"), ("ledger", "dispatch"), ("upstream", "acquire")]
)
def test_a_caller_is_answered_500_and_not_blamed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, script: str
) -> None:
    with (
        quick_sandbox() as sandbox,
        EmbeddedStore(tmp_path / "store") as store,
        gateway(sandbox, store.url, tmp_path / "koi", upstream_concurrency=1) as koi,
    ):
        key = koi.key()
        plant(monkeypatch, folder, script, GIBBERISH if folder == "ledger" else NO_SHAPE)
        with capture_logs() as logs, koi.client(key) as client:
            refused: httpx.Response = client.post("/v1/images/generations", json=KOI)
        assert not koi.settled().differences
        assert sandbox.billed_images == 0

    assert (refused.status_code, refused.json()["error"]["code"]) == (500, "internal_error")
    assert "gibberish" not in refused.text
    [line] = [line for line in logs if line["event"] == "unexpected_reply"]
    assert (line["script"], line["word"]) == (script, "gibberish")


def lua(name: str) -> str:
    return (FOLDER / "ledger" / f"{name}.lua").read_text()


@pytest.mark.parametrize("name", STATUSES)
def test_a_header_names_every_status_and_error_that_python_knows(name: str) -> None:
    header = "\n".join(line for line in lua(name).splitlines() if line.startswith("--"))
    words = set(re.findall(r"[a-z_]+", header.partition("->")[2]))

    known = {s.name.lower() if isinstance(s, ErrorCode) else s for s in STATUSES[name]}
    assert known <= words


@pytest.mark.parametrize("name", sorted(load_scripts("ledger")))
def test_python_knows_every_status_and_error_that_a_script_gives(name: str) -> None:
    statuses = set(re.findall(r"reply\('(\w+)'", lua(name)))
    errors = {ErrorCode[code.upper()] for code in re.findall(r"\bE\.(\w+)", lua(name))}
    anywhere = {ErrorCode.DATA_LOST, ErrorCode.CLOCK_SKEW}

    if name in STATUSES:
        assert statuses <= set(STATUSES[name])
        assert errors - anywhere <= set(STATUSES[name])
    else:
        assert not statuses
    assert not (name in STATUSES and name in PLAIN_REPLIES)


def test_every_code_that_a_prelude_gives_exists() -> None:
    for file in FOLDER.rglob("*.lua"):
        for code in re.findall(r"\bE\.(\w+)", file.read_text()):
            assert code.upper() in ErrorCode.__members__, f"{file.name}: {code}"
