"""Reference images on the disk: files without a name, within a share, gone with their holders."""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from app.adapters.files import TEMPORARY_PREFIX
from app.adapters.images.reference_spool import DiskReferenceSpool
from app.domain.errors import GatewayOverloaded
from app.domain.references import ReferenceFile


async def test_a_process_spools_no_more_than_its_share(tmp_path: Path) -> None:
    spool = DiskReferenceSpool(tmp_path, max_bytes=4_000_000)
    first, second = spool.open("ann"), spool.open("ann")
    first.add(bytes(900_000))
    await first.flush()
    second.add(bytes(400_000))

    with pytest.raises(GatewayOverloaded):
        await second.flush()
    span = first.span(0, 900_000)
    del first
    assert span.read(899_990, 100) == bytes(10)
    del span
    await room_for(spool, 900_000)
    assert list(tmp_path.iterdir()) == []


async def test_one_user_leaves_room_for_others(tmp_path: Path) -> None:
    spool = DiskReferenceSpool(tmp_path, max_bytes=4_000_000)
    greedy, other = spool.open("ann"), spool.open("bob")
    greedy.add(bytes(1_000_001))
    other.add(bytes(1_000_000))

    with pytest.raises(GatewayOverloaded):
        await greedy.flush()
    await other.flush()


async def room_for(spool: DiskReferenceSpool, length: int, user: str = "ann") -> None:
    """The thread that wrote a file may hold it for a moment longer."""
    deadline = time.monotonic() + 10
    while True:
        file = spool.open(user)
        file.add(bytes(length))
        try:
            return await file.flush()
        except GatewayOverloaded:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_pictures_leave_room_on_the_disk_for_the_journal(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    file = DiskReferenceSpool(tmp_path, kept_free_bytes=disk.f_blocks * disk.f_frsize).open("ann")
    file.add(b"koi")

    with pytest.raises(GatewayOverloaded):
        await file.flush(everything=True)


class EndsFiles(str):
    """A name that ends files whenever it is looked up, as a collection of garbage may."""

    files: list[ReferenceFile]

    def __hash__(self) -> int:
        self.files.clear()
        return super().__hash__()


async def test_a_file_that_ends_while_room_is_taken_holds_up_nobody(tmp_path: Path) -> None:
    spool = DiskReferenceSpool(tmp_path, max_bytes=4_000_000)
    first = spool.open("ann")
    first.add(bytes(900_000))
    await first.flush()
    name = EndsFiles("bob")
    name.files = [first]
    while sys.getrefcount(first) > 3:  # the thread that wrote it may hold it for a moment longer
        await asyncio.sleep(0.01)
    del first

    second = spool.open(name)
    second.add(bytes(900_000))
    await asyncio.wait_for(second.flush(), 10)

    await room_for(spool, 900_000)


async def test_parts_of_a_file_are_read_alone(tmp_path: Path) -> None:
    file = DiskReferenceSpool(tmp_path).open("ann")
    file.add(b"koi and ")
    file.add(b"carp")
    await file.flush(everything=True)
    koi, carp = file.span(0, 3), file.span(8, 12)

    assert (koi.read(0, 99), carp.read(0, 99), carp.read(2, 99)) == (b"koi", b"carp", b"rp")
    assert (koi.size, koi.read(3, 5), koi.read(9, 1)) == (3, b"", b"")


def test_what_a_process_left_that_died_between_two_system_calls_is_swept(tmp_path: Path) -> None:
    spool = DiskReferenceSpool(tmp_path)
    old, young = tmp_path / f"{TEMPORARY_PREFIX}1", tmp_path / f"{TEMPORARY_PREFIX}2"
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))

    spool.sweep(time.time())

    assert list(tmp_path.iterdir()) == [young]


async def test_pictures_are_examined_beside_all_other_work(tmp_path: Path) -> None:
    spool, go, started = DiskReferenceSpool(tmp_path), threading.Event(), threading.Semaphore(0)

    def look() -> str:
        started.release()
        go.wait(30)
        return threading.current_thread().name

    try:
        looks = [asyncio.create_task(spool.open("ann").examine(look)) for _ in range(50)]
        elsewhere = await asyncio.wait_for(
            asyncio.to_thread(lambda: (started.acquire(), started.acquire())), 20
        )
        waits = started.acquire(blocking=False)
    finally:
        go.set()
    names = set(await asyncio.gather(*looks))
    spool.close()

    assert (elsewhere, waits) == ((True, True), False)
    assert len(names) == 2
    assert all(name.startswith("koi-reference") for name in names)


async def test_a_disk_that_takes_nothing_is_a_refusal_not_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = DiskReferenceSpool(tmp_path / "file" / "references").open("ann")
    file.add(b"koi")

    with pytest.raises(GatewayOverloaded, match="nothing was spent"):
        await file.flush(everything=True)
