"""What the demo does once its gateway runs: a key, a picture, and how to go on."""

import asyncio
import base64
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from string import Template

import openai

from app.cli.failure import CommandFailed
from app.cli.out import say
from app.cli.snippets import SNIPPETS
from app.domain.limits import Meter, ScopeKind, Window
from app.domain.media import inspect
from app.wiring import Running

MODEL = "grok-imagine"
PROMPT = "A koi in a quiet pond, ink and water, one red leaf"
OWN_DAY = (ScopeKind.USER, Meter.IMAGES, Window.DAY)
BURST_S = 2.5
"""Identical requests closer together than two seconds mean several pictures (design, section 5)."""
KEY_LIVES = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Shot:
    """One answered generation: the bytes, the headers, and how long it took."""

    body: bytes
    task_id: str
    cache: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Show:
    """A guest of the running gateway (`app.cli.running.Guest`); its answer is the exit code."""

    url: str
    sandbox_url: str
    data_dir: Path
    once: bool
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, running: Running) -> int:
        await self.ready.wait()
        issued = await running.gateway.keys.issue("demo", name="koi demo", expires_in=KEY_LIVES)
        self._say_where()
        first = await self._ask(issued.secret, fresh=True)
        place = _save(first.body)
        seen = inspect(first.body)
        pixels = f"{seen.width}x{seen.height}" if seen else "unknown size"
        say(f"  saved     {place}  ({pixels}, {len(first.body) // 1024} KB, {first.took_s:.1f} s)")
        say(f"  task      {first.task_id}  (cache: {first.cache})")
        await asyncio.sleep(max(BURST_S - first.took_s, 0))
        again = await self._ask(issued.secret, fresh=False)
        took_ms = round(again.took_s * 1000)
        say(f"  again     {took_ms} ms for the same question  (cache: {again.cache})")
        await self._say_used(running, issued.secret)
        self._say_how(issued.secret)
        if not self.once:
            say("Serving until Ctrl-C.")
            await asyncio.Event().wait()
        return 0

    async def _ask(self, secret: str, *, fresh: bool) -> Shot:
        try:
            return await asyncio.to_thread(generate, self.url, secret, fresh=fresh)
        except openai.OpenAIError as error:
            raise CommandFailed(f"The demo's picture failed: {error}") from error

    def _say_where(self) -> None:
        say("Koi demo: gateway, store and a sandbox provider on this machine.")
        say("The provider is a stand-in: no account, no bill, invented pictures, and about eight")
        say("times faster than a real one (10 to 30 s a picture).")
        say()
        say(f"  gateway   {self.url}")
        say(f"  provider  {self.sandbox_url}  (sandbox)")
        say(f"  data      {self.data_dir}")
        say()
        say("One picture through the official OpenAI SDK ...")

    async def _say_used(self, running: Running, secret: str) -> None:
        standing = await running.gateway.usage.standing(await running.gateway.identify(secret))
        used = sum(
            allowance.used
            for allowance in standing.allowances
            if (allowance.scope, allowance.meter, allowance.window) == OWN_DAY
        )
        unpriced = MODEL in running.gateway.catalog.unpriced
        cost = "cost unknown: the catalog has no price yet" if unpriced else "cost in `koi usage`"
        say(f"  used      {used} {'image' if used == 1 else 'images'} today ({cost})")

    def _say_how(self, secret: str) -> None:
        words = {"url": self.url, "key": secret, "model": MODEL, "koi": _own_command()}
        say(Template(SNIPPETS).substitute(words))


def generate(url: str, secret: str, *, fresh: bool) -> Shot:
    """One call as any client makes it; `fresh` asks for a new picture, whatever is cached."""
    began = time.monotonic()
    with openai.OpenAI(base_url=url, api_key=secret, timeout=120, max_retries=0) as client:
        raw = client.images.with_raw_response.generate(
            model=MODEL,
            prompt=PROMPT,
            response_format="b64_json",
            extra_headers={"Cache-Control": "no-cache"} if fresh else None,
        )
        images = raw.parse().data or []
    return Shot(
        body=base64.b64decode((images[0].b64_json if images else None) or ""),
        task_id=raw.headers.get("x-koi-task-id", "unknown"),
        cache=raw.headers.get("x-koi-cache", "unknown"),
        took_s=time.monotonic() - began,
    )


def _own_command() -> str:
    """How to call this program from here, to be pasted."""
    called = Path(sys.argv[0])
    return os.path.relpath(called) if called.name == "koi" and not shutil.which("koi") else "koi"


def _save(body: bytes) -> Path:
    """`koi-demo.jpg`, or whatever the bytes are; replaced whole when it is there already."""
    seen = inspect(body)
    place = Path(f"koi-demo.{seen.extension if seen else 'bin'}")
    part = place.with_suffix(".part")
    try:
        part.write_bytes(body)
        os.replace(part, place)
    except OSError as error:
        raise CommandFailed(f"Cannot write {place} here ({error.strerror}).") from None
    return place
