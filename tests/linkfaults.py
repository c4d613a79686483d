"""What may go wrong on a link: values, made by the functions below, for `FaultProxy`."""

from dataclasses import dataclass
from enum import Flag, auto


class Way(Flag):
    THERE = auto()
    """From the client to the target."""
    BACK = auto()
    BOTH = THERE | BACK


@dataclass(frozen=True)
class Fault:
    """What a link does to its bytes in the directions `way`. Made by the functions below."""

    name: str = "pass"
    way: Way = Way.BOTH
    delay_s: float = 0
    jitter_s: float = 0
    bytes_per_s: float | None = None
    after: int | None = None
    """Bytes that pass before the connection is cut."""
    rst: bool = False


PASS = Fault()


def delay(delay_s: float, jitter_s: float = 0, way: Way = Way.BOTH) -> Fault:
    """Every byte arrives later: by `delay_s` and up to `jitter_s` more, in each direction."""
    return Fault("delay", way=way, delay_s=delay_s, jitter_s=jitter_s)


def throttle(bytes_per_s: float, way: Way = Way.BOTH) -> Fault:
    return Fault("throttle", way=way, bytes_per_s=bytes_per_s)


def reset(after: int | None = None, way: Way = Way.BOTH) -> Fault:
    """A real RST on both sides: at once, or when `after` bytes have passed."""
    return Fault("reset", way, after=after, rst=True)


def truncate(after: int, way: Way = Way.BACK) -> Fault:
    """An orderly end (FIN) on both sides when `after` bytes have passed."""
    return Fault("truncate", way, after=after)


def lose_replies() -> Fault:
    """The request passes; its answer is dropped and the connection reset instead."""
    return Fault("lose replies", Way.BACK, after=0, rst=True)


def black_hole(way: Way = Way.BOTH) -> Fault:
    """Accepts and reads, never passes anything on. With `Way.BACK` requests do arrive.

    A connection that lost bytes stays dumb after `heal`.
    """
    return Fault("black hole", way)


def freeze() -> Fault:
    """Accepts nobody and holds all bytes; what was held flows on after `heal`."""
    return Fault("freeze")


def refuse() -> Fault:
    """As if nobody listened: ECONNREFUSED for new connections, RST for existing ones."""
    return Fault("refuse", rst=True)


def half_close(way: Way = Way.BACK) -> Fault:
    """FIN in one direction while the other goes on."""
    return Fault("half-close", way)
