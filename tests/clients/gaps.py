"""`python -m tests.clients.gaps`: how often each client asks for one call when it is told no, how
long it pauses, and what it sends along. A tiny server counts; Koi is not there at all."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.clients.catalog import CLIENTS, Client, chosen
from tests.clients.counter import ANSWERS, Arrival, counting
from tests.clients.process import Driver

TIMES = 3
TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")


@dataclass(frozen=True)
class Measured:
    client: Client
    answer: str
    tries: list[list[Arrival]]
    saw: str
    """What the user is left with."""

    @property
    def attempts(self) -> str:
        return _span([float(len(arrivals)) for arrivals in self.tries], 0)

    @property
    def gaps(self) -> list[str]:
        """The pause before each repeat, smallest to largest over all tries, in seconds."""
        most = max(len(arrivals) for arrivals in self.tries)
        return [
            _span([a[at].after_s or 0 for a in self.tries if len(a) > at], 2)
            for at in range(1, most)
        ]

    def __str__(self) -> str:
        return f"{self.attempts}" + (f" ({'; '.join(self.gaps)})" if self.gaps else "")


def _span(numbers: Sequence[float], digits: int) -> str:
    least, most = (f"{number:.{digits}f}" for number in (min(numbers), max(numbers)))
    return least if least == most else f"{least}-{most}"


def measure(client: Client) -> list[Measured]:
    """Every answer, all at once: each is a call of its own, so they do not disturb each other."""
    client.prepare()
    with counting() as (counter, url), Driver(client) as driver:
        driver.call(60, base_url=url, key="sk-koi-none", prompt="400 first")
        calls = {
            (name, number): driver.begin(
                base_url=url,
                key=f"sk-koi-{name}-{number}",
                prompt=f"{name} {number}",
                **({"timeout_s": 1.0} if name == "silence" else {}),
            )
            for name in ANSWERS
            for number in range(TIMES)
        }
        said = {place: call.result(90) for place, call in calls.items()}
        return [
            Measured(client, name, tries, str(said[name, 0].get("error", "pictures")))
            for name in ANSWERS
            if all(tries := [counter.arrivals[f"{name} {number}"] for number in range(TIMES)])
        ]


def table(rows: list[list[Measured]]) -> Iterator[str]:
    yield "| Client | " + " | ".join(ANSWERS) + " |"
    yield "|---" * (len(ANSWERS) + 1) + "|"
    for row in rows:
        seen = {measured.answer: str(measured) for measured in row}
        cells = [seen.get(name, "-") for name in ANSWERS]
        yield f"| {row[0].client.title} | " + " | ".join(cells) + " |"


def _announced(headers: Mapping[str, str]) -> str:
    return " ".join(f"`{n}: {headers[n]}`" for n in TIMEOUTS if n in headers) or "none"


def sent(rows: list[list[Measured]]) -> Iterator[str]:
    """What the first request and the last repeat of a failing call carried."""
    yield "| Client | User-Agent | Mark of the last repeat | Announced timeout | with timeout=1 |"
    yield "|---|---|---|---|---|"
    for row in rows:
        tries = {measured.answer: measured.tries[0] for measured in row}
        first, last = tries["504"][0].headers, tries["504"][-1].headers
        set_by_user = _announced(tries["silence"][0].headers) if "silence" in tries else "-"
        mark = last.get("x-stainless-retry-count")
        cells = [
            f"`{first.get('user-agent', '')}`",
            f"`x-stainless-retry-count: {mark}`" if mark not in {None, "0"} else "none",
            _announced(first),
            set_by_user,
        ]
        yield f"| {row[0].client.title} | " + " | ".join(cells) + " |"


def seen(rows: list[list[Measured]]) -> Iterator[str]:
    """What the user is shown for a refusal in the status, a cut, and an error under a 200."""
    names = ("500-told-not-to", "cut-late", "error-late", "silence")
    yield "| Client | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for row in rows:
        saw = {measured.answer: f"`{measured.saw[:90]}`" for measured in row}
        cells = [saw.get(name, "-").replace("|", "/").replace("\n", " ") for name in names]
        yield f"| {row[0].client.title} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.clients.gaps", description=__doc__)
    parser.add_argument("--clients", default="", help=", ".join(c.name for c in CLIENTS))
    asked = parser.parse_args()
    rows = []
    for client in chosen(asked.clients):
        print(f"measuring {client.name} ...", file=sys.stderr, flush=True)
        rows.append(measure(client))
    print("\n".join(["", *table(rows), "", *sent(rows), "", *seen(rows)]))


if __name__ == "__main__":
    main()
