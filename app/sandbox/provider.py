"""The provider's state: requests, generations and the bill."""

import hashlib
import hmac
import random
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.sandbox.account import BillLine, Pace, key_problem
from app.sandbox.contract import Problem, Profile, Refused
from app.sandbox.faults import FAULTS
from app.sandbox.faults.row import Bills
from app.sandbox.faults.tasks import ODD
from app.sandbox.gallery import Gallery, Plate
from app.sandbox.generation import FaultUse, Generation, draw_latency
from app.sandbox.order import Order, read_order
from app.sandbox.profiles import PROFILES
from app.sandbox.switches import Switches

_TAG = re.compile(r"\[fault:([a-z0-9-]+)(?:=([^\]]*))?\]")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as received; `server` is `api` or `cdn`."""

    server: str
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes


class Provider:
    """The state that both servers and the control routes share; every method is thread-safe."""

    def __init__(
        self,
        profile: str | Profile = "doc",
        time_scale: float = 1.0,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.gallery = Gallery()
        self.time_scale = time_scale
        self.seed = seed
        self.cdn_port = 0
        self._clock = clock
        self._log: Callable[[str], None] | None = None
        self._secret = secrets.token_bytes(16)
        self._first_profile = PROFILES[profile] if isinstance(profile, str) else profile
        self._first_switches = Switches()
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Resets to the start: no tasks, no bill, no script, the first profile and switches."""
        with self.lock:
            self.profile: Profile = self._first_profile
            self.switches = self._first_switches
            self.generations: list[Generation] = []
            self.tasks: dict[str, Generation] = {}
            self.files: dict[str, Generation] = {}
            self.requests: deque[Recorded] = deque(maxlen=1_000)
            self.posts = 0
            self.polls = 0
            self.link_epoch = 0
            self._offset_s = 0.0
            self._script: deque[FaultUse | None] = deque()
            self._takes: dict[str, int] = {}
            self._pace = Pace()
            self._dice = random.Random(self.seed)  # noqa: S311

    def now(self) -> float:
        """Unix seconds by the provider's own clock."""
        return self._clock() + self._offset_s

    # Control

    def set_profile(self, name: str) -> None:
        """Raises KeyError for a profile that does not exist."""
        self.profile = PROFILES[name]

    def set_switches(self, **changes: Any) -> None:
        """Raises UnknownSwitch; see Switches for the names."""
        with self.lock:
            fresh = self.switches.changed(changes)
            for name in fresh.fault_names:
                read_fault(name)
            self.switches = fresh

    def start_with(self, **changes: Any) -> None:
        """Sets switches that a reset keeps. Raises UnknownSwitch."""
        self.set_switches(**changes)
        self._first_switches = self.switches

    def script(self, *faults: str) -> None:
        """Faults for the next accepted POSTs, one each; `ok` is none. Raises ValueError."""
        uses = [None if name == "ok" else read_fault(name) for name in faults]
        with self.lock:
            self._script.extend(uses)

    def report_to(self, log: Callable[[str], None]) -> None:
        """Calls `log` with one line for each accepted generation."""
        self._log = log

    def script_left(self) -> int:
        """How many scripted faults are left."""
        return len(self._script)

    def advance(self, seconds: float) -> None:
        """Advances the provider's clock, by which tasks, links, retention and limits go."""
        with self.lock:
            self._offset_s += seconds

    def expire_links(self) -> None:
        """Lets every link issued so far expire, also when a task shows it again."""
        with self.lock:
            self.link_epoch += 1

    def mend(self) -> None:
        """Ends the faults of every generation accepted so far."""
        with self.lock:
            for generation in self.generations:
                generation.use = None

    def bill(self) -> list[BillLine]:
        """One line for each accepted generation, oldest first."""
        with self.lock:
            now, switches = self.now(), self.switches
            return [generation.bill(now, switches) for generation in self.generations]

    # Serving

    def identify(self, key: str, buying: bool) -> None:
        """Checks a key and its rate. Raises Refused."""
        with self.lock:
            problem = key_problem(key, self.profile, self.switches, buying)
            if problem is None:
                problem = self._pace.check(key, self.switches, self.now(), buying)
        if problem is not None:
            raise Refused(problem)

    def pace_headers(self, key: str) -> tuple[tuple[str, str], ...]:
        """The rate limit headers, when switched on."""
        return self._pace.headers(key, self.switches, self.now())

    def understand(self, body: bytes) -> Order:
        """Validates a generation request. Raises Refused."""
        return read_order(body, self.profile, self.switches)

    def next_fault(self, prompt: str) -> FaultUse | None:
        """The next fault of the script, else of the prompt's tag, else by the fault rate. Raises
        Refused for a bad tag."""
        with self.lock:
            if self._script:
                return self._script.popleft()
            tag = _TAG.search(prompt)
            if tag is not None:
                try:
                    return read_fault(tag[0][7:-1])
                except ValueError as error:
                    raise Refused(Problem(400, "unknown_fault", str(error))) from None
            if self._dice.random() < self.switches.fault_rate:
                return read_fault(self._dice.choice(self.switches.fault_names))
            return None

    def accept(
        self, order: Order, key: str, use: FaultUse | None, request_id: str, host: str
    ) -> Generation:
        """Accepts the order: from here on it is on the bill, even if the client leaves."""
        with self.lock:
            take = self._takes[order.prompt] = self._takes.get(order.prompt, 0) + 1
            now = self.now()
            generation = Generation(
                task_id=self.profile.task_ids.fresh(),
                file_id=secrets.token_hex(8),
                request_id=request_id,
                key=key,
                order=order,
                take=take,
                accepted_at=now,
                finish_at=now + self._latency(order, take),
                link_base="" if self.profile.relative_links else f"http://{host}:{self.cdn_port}",
                link_epoch=self.link_epoch,
                link_expires=int(now + self.switches.link_ttl_s),
                use=use,
                failure=use.fault.failure(use.arg) if use and use.fault.failure else None,
            )
            self.generations.append(generation)
            self.tasks[generation.task_id] = self.files[generation.file_id] = generation
            self._pace.started(key, generation.finish_at)
        self._note(f"accepted {order.n} x {order.model} {order.width}x{order.height}")
        return generation

    def counts(self, use: FaultUse | None) -> bool:
        """Whether a request with this fault is accepted, and so billed or refunded."""
        if use is None or use.fault.reply is None:
            return True
        if self.switches.fault_bills != "table":
            return self.switches.fault_bills == "always"
        return use.fault.bills is not Bills.NOTHING

    def task(self, task_id: str) -> Generation | None:
        """A task within its retention; any valid key may read any task."""
        generation = self.tasks.get(task_id.removesuffix(ODD))
        if generation and self.now() > generation.finish_at + self.switches.task_ttl_s:
            return None
        return generation

    def previous_id(self, generation: Generation) -> str:
        """The task id of the generation before this one, or its own if it is the first."""
        with self.lock:
            index = self.generations.index(generation)
            return self.generations[max(0, index - 1)].task_id

    def delivered(self, generation: Generation, images: int) -> None:
        """Notes how many images a reply delivered; the largest number counts."""
        generation.delivered = max(generation.delivered, images)

    def pause_s(self, least: float, most: float) -> float:
        """The latency of an API call itself, scaled."""
        if not self.switches.api_latency:
            return 0.0
        return self._dice.uniform(least, most) * self.time_scale

    def signature(self, name: str, expires: int, epoch: int) -> str:
        """The signature of a link."""
        text = f"{name}|{expires}|{epoch}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:32]

    async def picture(self, generation: Generation, index: int) -> bytes:
        """The file of one result."""
        order, switches = generation.order, self.switches
        plate = Plate(
            self.seed,
            " ".join((order.prompt, *order.references)),
            order.width,
            order.height,
            index,
            generation.take,
            switches.image_format,
            switches.picture_style,
        )
        return await self.gallery.bytes_of(plate)

    def _latency(self, order: Order, take: int) -> float:
        if self.switches.latency_s is not None:
            return self.switches.latency_s * self.switches.latency_factor
        seed = f"{self.seed}|{order.prompt}|{order.n}|{take}"
        return draw_latency(seed, order.n, self.switches) * self.time_scale

    def _note(self, line: str) -> None:
        if self._log is not None:
            self._log(line)


def read_fault(text: str) -> FaultUse:
    """`name` or `name=argument`. Raises ValueError for a name not in the registry."""
    name, _, arg = text.partition("=")
    if name not in FAULTS:
        raise ValueError(f"no fault is called {name!r}")
    return FaultUse(FAULTS[name], arg)
