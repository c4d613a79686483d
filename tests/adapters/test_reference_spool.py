"""Reference images on the disk: files without a name, within a share, gone with their holders."""

import asyncio
import gc
import os
import time
from pathlib import Path
from typing import Any

import pytest

from app.adapters.files import TEMPORARY_PREFIX
from app.adapters.images.reference_spool import DiskReferenceSpool
from app.domain.errors import GatewayOverloaded


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


async def test_garbage_that_is_found_while_room_is_taken_gives_its_room_back(
    tmp_path: Path,
) -> None:
    spool = DiskReferenceSpool(tmp_path, max_bytes=4_000_000)
    limits = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        for allocations in range(1, 40):  # one of them is the moment in which the room is counted
            forgotten: list[Any] = [spool.open("bob")]
            forgotten[0].add(bytes(20_000))
            await forgotten[0].flush(everything=True)
            forgotten.append(forgotten)
            del forgotten
            gc.set_threshold(gc.get_count()[0] + allocations)
            gc.enable()
            assert spool._room.take("ann", 0)
            gc.disable()
            gc.collect()
    finally:
        gc.set_threshold(*limits)
        gc.enable()
    await room_for(spool, 1_000_000, "bob")


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


async def test_a_disk_that_takes_nothing_is_a_refusal_not_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = DiskReferenceSpool(tmp_path / "file" / "references").open("ann")
    file.add(b"koi")

    with pytest.raises(GatewayOverloaded, match="nothing was spent"):
        await file.flush(everything=True)
