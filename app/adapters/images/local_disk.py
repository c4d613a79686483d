"""Whether a directory is on a disk of this machine, as the kernel of Linux tells it."""

import os
from pathlib import Path

LOCAL_KINDS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
"""File systems that wait for no other machine."""
MOUNTS = Path("/proc/self/mountinfo")


def is_on_local_disk(directory: Path, mounts: Path = MOUNTS) -> bool:
    """False also where nobody says, and for a directory that is not there."""
    try:
        device = directory.stat().st_dev
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    # See proc_pid_mountinfo(5): id, parent, device ... - kind ...
    kinds = {line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == number}
    return bool(kinds) and kinds <= LOCAL_KINDS
