"""One PING over a unix socket (RESP2), to know whether a server really answers."""

import socket
from enum import Enum, auto
from pathlib import Path

TIMEOUT_S = 0.5


class Answer(Enum):
    """What came back."""

    PONG = auto()
    LOADING = auto()
    """It reads its data from disk and will be ready."""
    SILENCE = auto()


def ping(path: Path) -> Answer:
    """Ask the server behind this socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            reply = connection.recv(512)
    except OSError:
        return Answer.SILENCE
    if reply.startswith(b"+PONG"):
        return Answer.PONG
    return Answer.LOADING if reply.startswith(b"-LOADING") else Answer.SILENCE
