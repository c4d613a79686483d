"""Counts of the embedded store: scripts, commands, bytes of its socket and of its log."""

import socket
from dataclasses import astuple, dataclass
from pathlib import Path

SCRIPT_COMMANDS = {"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"}


class StoreSilent(Exception):
    """The store did not answer `INFO`."""


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """Since the store's start. `commands` includes those that scripts call."""

    scripts: float = 0
    commands: float = 0
    bytes_in: float = 0
    bytes_out: float = 0
    log_bytes: float = 0

    def each(self, before: "StoreCounts", requests: int) -> "StoreCounts":
        """What one of these requests cost."""
        pairs = zip(astuple(self), astuple(before), strict=True)
        return StoreCounts(*((now - then) / max(requests, 1) for now, then in pairs))


def store_counts(path: Path) -> StoreCounts:
    """Raises `StoreSilent`."""
    facts = _info(path)
    calls = {
        name.removeprefix("cmdstat_"): int(value.split(",")[0].removeprefix("calls="))
        for name, value in facts.items()
        if name.startswith("cmdstat_")
    }
    return StoreCounts(
        sum(count for name, count in calls.items() if name in SCRIPT_COMMANDS),
        sum(calls.values()),
        int(facts["total_net_input_bytes"]),
        int(facts["total_net_output_bytes"]),
        int(facts.get("aof_current_size", 0)),
    )


def _info(path: Path) -> dict[str, str]:
    text = b""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(path))
            link.sendall(b"INFO everything\r\n")
            head, text = _first_line(link)
            length = int(head[1:])
            while len(text) < length:
                text += link.recv(1 << 16)
    except (OSError, ValueError) as error:
        raise StoreSilent(f"the store at {path} did not answer: {error!r}") from error
    lines = (line.partition(":") for line in text.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}


def _first_line(link: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n" not in data:
        data += link.recv(1 << 16)
    head, _, rest = data.partition(b"\r\n")
    return head, rest
