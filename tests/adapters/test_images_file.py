"""FileImageStore on a real disk."""

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from app.adapters.images.file import FileImageStore
from app.adapters.images.local_disk import is_on_local_disk
from app.adapters.images.spool import MAX_IN_MEMORY_BYTES
from app.domain.media import SLICE_BYTES, ImageContent, ImageStoreUnavailable
from tests.drafts import named

ROOT = Path(__file__).parents[2]
NAME = "img_" + "0a" * 16 + ".png"
DAY = timedelta(days=1)


def name(number: int, extension: str = "png") -> str:
    return f"img_{number:02x}{number:030x}.{extension}"


@pytest.fixture
async def store(tmp_path: Path) -> FileImageStore:
    opened = FileImageStore(tmp_path / "images")
    await opened.check()
    return opened


def path_of(store_root: Path, image: str) -> Path:
    return store_root / "images" / image[4:6] / image


@pytest.mark.parametrize(
    ("extension", "media_type"),
    [
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("webp", "image/webp"),
        ("gif", "image/gif"),
    ],
)
async def test_what_was_put_is_got(store: FileImageStore, extension: str, media_type: str) -> None:
    await store.put(name(1, extension), b"bytes", media_type)

    assert await store.get(name(1, extension)) == ImageContent(b"bytes", media_type)


async def test_the_same_name_again_replaces(store: FileImageStore) -> None:
    await store.put(NAME, b"first", "image/png")
    await store.put(NAME, b"second", "image/png")

    stored = await store.get(NAME)

    assert stored is not None
    assert stored.body == b"second"


async def test_many_at_once_are_all_kept(store: FileImageStore) -> None:
    await asyncio.gather(*(store.put(name(n), b"%d" % n, "image/png") for n in range(60)))

    kept = await asyncio.gather(*(store.get(name(n)) for n in range(60)))

    assert [image.body for image in kept if image] == [b"%d" % n for n in range(60)]


async def test_an_image_is_read_slice_by_slice(store: FileImageStore) -> None:
    body = os.urandom(150_000)
    await store.put(NAME, body, "image/png")

    slices = [await store.read(NAME, at) for at in range(0, len(body), SLICE_BYTES)]

    assert b"".join(part.body for part in slices if part) == body
    assert {(part.size, part.media_type) for part in slices if part} == {(150_000, "image/png")}
    assert await store.read(name(9)) is None


async def test_images_exist_only_all_together(store: FileImageStore) -> None:
    for number in (1, 2):
        await store.put(name(number), b"bytes", "image/png")

    assert await store.exists([name(1), name(2)])
    assert not await store.exists([name(1), name(3)])
    assert not await store.exists(["../" + NAME])


@pytest.mark.parametrize("length", [10, MAX_IN_MEMORY_BYTES, 3 * MAX_IN_MEMORY_BYTES + 1])
async def test_a_draft_is_read_anywhere_and_kept(store: FileImageStore, length: int) -> None:
    body = os.urandom(length)
    async with store.draft(NAME[:36]) as draft:
        for at in range(0, length, 50_000):
            await draft.write(body[at : at + 50_000])
        await draft.seal()
        assert draft.size == length
        assert all(draft.read(at, 9) == body[at : at + 9] for at in range(0, length, 40_000))
        assert draft.read(0, length) == body
        await draft.keep(named(NAME))

    assert await store.get(NAME) == ImageContent(body, "image/png")


async def test_a_draft_that_is_not_kept_leaves_nothing(
    store: FileImageStore, tmp_path: Path
) -> None:
    async with store.draft(NAME[:36]) as draft:
        await draft.write(bytes(2 * MAX_IN_MEMORY_BYTES))
        with pytest.raises(ValueError, match="does not name"):
            await draft.keep(named("../" + NAME))

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_a_deleted_image_is_gone_however_often(store: FileImageStore) -> None:
    await store.put(NAME, b"bytes", "image/png")

    await store.delete(NAME)
    await store.delete(NAME)

    assert await store.get(NAME) is None


async def test_files_are_private_and_no_leftovers_remain(
    store: FileImageStore, tmp_path: Path
) -> None:
    await store.put(NAME, b"bytes", "image/png")

    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}

    assert found == {"images": 0o700, "0a": 0o700, NAME: 0o600}


@pytest.mark.parametrize(
    "odd",
    ["", "..", "../" + NAME, "/etc/passwd", NAME + "\n", NAME + "\0", NAME.upper(), "img_0a.png"],
)
async def test_no_other_name_is_known(store: FileImageStore, odd: str) -> None:
    with pytest.raises(ValueError, match="does not name"):
        await store.put(odd, b"bytes", "image/png")

    assert await store.get(odd) is None
    await store.delete(odd)


async def test_a_type_that_contradicts_the_name_is_our_bug(store: FileImageStore) -> None:
    with pytest.raises(ValueError, match="does not name"):
        await store.put(NAME, b"bytes", "image/jpeg")


async def test_links_out_of_the_store_are_not_followed(
    store: FileImageStore, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    path_of(tmp_path, NAME).parent.mkdir()
    path_of(tmp_path, NAME).symlink_to(secret)

    assert await store.get(NAME) is None
    await store.put(NAME, b"bytes", "image/png")

    assert secret.read_bytes() == b"secret"
    assert await store.get(NAME) == ImageContent(b"bytes", "image/png")


async def test_a_linked_shard_is_neither_read_nor_written(
    store: FileImageStore, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / NAME).write_bytes(b"secret")
    (tmp_path / "images" / "0a").symlink_to(tmp_path / "outside")

    assert await store.get(NAME) is None
    await store.delete(NAME)
    assert await store.sweep(-DAY) == 0
    with pytest.raises(ImageStoreUnavailable, match="cannot be used"):
        await store.put(NAME, b"bytes", "image/png")

    assert (tmp_path / "outside" / NAME).read_bytes() == b"secret"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
async def test_what_is_no_file_is_no_image(store: FileImageStore, tmp_path: Path, make) -> None:
    path_of(tmp_path, NAME).parent.mkdir()
    make(path_of(tmp_path, NAME))

    assert await asyncio.wait_for(store.get(NAME), 30) is None


async def test_a_sweep_removes_what_is_old_and_nothing_else(
    store: FileImageStore, tmp_path: Path
) -> None:
    for number in range(6):
        await store.put(name(number), b"bytes", "image/png")
    shard = path_of(tmp_path, name(0)).parent
    (shard / "note.txt").write_text("the operator's own")
    (shard / ".part-dead").write_bytes(b"half an im")
    for old in (path_of(tmp_path, name(0)), path_of(tmp_path, name(5)), *shard.glob("*[xd]")):
        os.utime(old, (1, 1))
    (shard / ".part-live").write_bytes(b"half an im")

    removed = await store.sweep(DAY)

    assert removed == 2
    assert [n for n in range(6) if await store.get(name(n))] == [1, 2, 3, 4]
    assert {path.name for path in shard.iterdir()} == {"note.txt", ".part-live"}


async def test_an_unmounted_directory_is_not_an_empty_one(tmp_path: Path) -> None:
    store = FileImageStore(tmp_path / "images")

    with pytest.raises(ImageStoreUnavailable, match="create or mount it"):
        await store.get(NAME)


async def test_a_directory_of_somebody_else_is_reported(tmp_path: Path) -> None:
    # Root writes anywhere, so the attempt is made by nobody.
    attempt = """
import asyncio, concurrent.futures.thread, os, sys
from pathlib import Path
from app.adapters.images.file import FileImageStore
from app.adapters.images.local_disk import is_on_local_disk
from app.domain.media import ImageStoreUnavailable
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    asyncio.run(FileImageStore(Path(sys.argv[1])).check())
except ImageStoreUnavailable as unavailable:
    print(unavailable)
"""
    tmp_path.chmod(0o555)

    tried = subprocess.run(
        [sys.executable, "-c", attempt, str(tmp_path / "images")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tmp_path.chmod(0o755)

    assert "own and write this directory" in tried.stdout


async def test_a_file_in_the_way_is_reported(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("")
    store = FileImageStore(tmp_path / "images")

    for attempt in (store.check(), store.put(NAME, b"bytes", "image/png")):
        with pytest.raises(ImageStoreUnavailable, match="is a directory"):
            await attempt


async def test_a_disk_that_takes_no_more_leaves_the_old_image(
    store: FileImageStore, tmp_path: Path
) -> None:
    # A limit on file size is the honest full disk that needs no root.
    attempt = """
import asyncio, resource, signal, sys
from pathlib import Path
from app.adapters.images.file import FileImageStore
from app.adapters.images.local_disk import is_on_local_disk
from app.domain.media import ImageStoreUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    asyncio.run(FileImageStore(Path(sys.argv[1])).put(sys.argv[2], b"x" * 5000, "image/png"))
except ImageStoreUnavailable as unavailable:
    print(unavailable)
"""
    await store.put(NAME, b"bytes", "image/png")

    tried = subprocess.run(
        [sys.executable, "-c", attempt, str(tmp_path / "images"), NAME],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "cannot be used (File too large)" in tried.stdout
    assert [path.name for path in path_of(tmp_path, NAME).parent.iterdir()] == [NAME]
    assert await store.get(NAME) == ImageContent(b"bytes", "image/png")


def mounts_with(folder: Path, *kinds: str) -> Path:
    """What the kernel would say if the folder's device were mounted as these file systems."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = [f"36 35 {number} / {folder} rw shared:1 - {kind} /dev/some rw" for kind in kinds]
    mounts = folder / "mounts"
    mounts.write_text("\n".join(["22 27 0:0 / /proc rw,relatime - proc proc rw", *lines]))
    return mounts


@pytest.mark.parametrize(
    ("kinds", "is_local"),
    [
        (("ext4",), True),
        (("overlay", "overlay"), True),
        (("nfs4",), False),
        (("fuse.s3fs",), False),
        (("ext4", "cifs"), False),
        ((), False),
    ],
)
def test_only_a_known_kind_of_disk_is_one_of_this_machine(
    tmp_path: Path, kinds: tuple[str, ...], is_local: bool
) -> None:
    assert is_on_local_disk(tmp_path, mounts_with(tmp_path, *kinds)) is is_local


def test_a_directory_of_which_nothing_is_known_is_on_no_disk_of_this_machine(
    tmp_path: Path,
) -> None:
    assert not is_on_local_disk(tmp_path / "missing", mounts_with(tmp_path, "ext4"))
    assert not is_on_local_disk(tmp_path, tmp_path / "nobody says")
