"""What the demo does once its gateway runs: it makes a key and a picture, and says what is next."""

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

from app.cli.errors import CommandFailed
from app.cli.output import print_line
from app.domain.limits import LimitKind, LimitWindow, ScopeKind
from app.domain.media import detect_image
from app.service.keys import KeyAdmin
from app.wiring.gateway import RunningGateway

SNIPPETS = """
In a browser: $page
  "I have a key"       $key
  "I operate this"     $admin_key

curl:
  curl $url/images/generations -H 'Authorization: Bearer $key' \\
    -H 'Content-Type: application/json' \\
    -d '{"model": "$model", "prompt": "a lighthouse in the snow"}'

Python (pip install openai):
  from openai import OpenAI
  client = OpenAI(base_url="$url", api_key="$key")
  picture = client.images.generate(model="$model", prompt="a lighthouse in the snow")
  print(picture.data[0].url)

Node (npm install openai):
  import OpenAI from "openai";
  const client = new OpenAI({ baseURL: "$url", apiKey: "$key" });
  const prompt = "a lighthouse in the snow";
  const picture = await client.images.generate({ model: "$model", prompt });
  console.log(picture.data[0].url);

For real: KOI_UPSTREAM_API_KEY=… $koi serve, then: $koi keys create --user alice --new
"""


MODEL = "grok-imagine"
PROMPT = "A koi in a quiet pond, ink and water, one red leaf"
USER_IMAGES_PER_DAY = (ScopeKind.USER, LimitKind.IMAGES, LimitWindow.DAY)
REPEAT_AFTER_S = 2.5
"""An identical request within two seconds asks for another picture; a later one may be answered
from the cache."""
USER, KEY_NAME = "demo", "koi demo"
KEY_TTL = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class DemoImage:
    """One answered generation: the bytes, the headers, and how long it took."""

    body: bytes
    task_id: str
    cache: str
    took_s: float


@dataclass(frozen=True, slots=True)
class DemoClient:
    """Uses the running gateway (`app.server.run.InProcessClient`); returns the exit code. `alone`:
    no other demo seems to run, so the keys of earlier ones end."""

    url: str
    sandbox_url: str
    data_dir: Path
    admin_key: str
    once: bool
    alone: bool
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, running: RunningGateway) -> int:
        await self.ready.wait()
        keys = running.gateway.keys
        if self.alone:
            await _revoke_earlier(keys)
        issued = await keys.issue(USER, name=KEY_NAME, expires_in=KEY_TTL)
        self._print_addresses()
        first = await self._generate(issued.secret, fresh=True)
        path = _save_image(first.body)
        seen = detect_image(first.body)
        pixels = f"{seen.width}x{seen.height}" if seen else "unknown size"
        print_line(
            f"  saved     {path}  ({pixels}, {len(first.body) // 1024} KB, {first.took_s:.1f} s)"
        )
        print_line(f"  task      {first.task_id}  (cache: {first.cache})")
        await asyncio.sleep(max(REPEAT_AFTER_S - first.took_s, 0))
        again = await self._generate(issued.secret, fresh=False)
        took_ms = round(again.took_s * 1000)
        print_line(f"  again     {took_ms} ms for the same question  (cache: {again.cache})")
        await self._print_usage(running, issued.secret)
        self._print_snippets(issued.secret)
        if not self.once:
            print_line("Serving until Ctrl-C.")
            await asyncio.Event().wait()
        return 0

    async def _generate(self, secret: str, *, fresh: bool) -> DemoImage:
        try:
            return await asyncio.to_thread(generate, self.url, secret, fresh=fresh)
        except openai.OpenAIError as error:
            raise CommandFailed(f"The demo's picture failed: {error}") from error

    def _print_addresses(self) -> None:
        print_line("Koi demo: gateway, store and a sandbox provider on this machine.")
        print_line(
            "The provider is a stand-in: no account, no bill, invented pictures, and about eight"
        )
        print_line("times faster than a real one (10 to 30 s a picture).")
        print_line()
        print_line(f"  gateway   {self.url}")
        print_line(f"  provider  {self.sandbox_url}  (sandbox)")
        print_line(f"  data      {self.data_dir}")
        print_line(f"  operate   KOI_DATA_DIR={self.data_dir} {_koi_command()} usage")
        print_line()
        print_line("One picture through the official OpenAI SDK ...")

    async def _print_usage(self, running: RunningGateway, secret: str) -> None:
        limit_snapshot = await running.gateway.usage.read_limits(
            await running.gateway.authenticate(secret)
        )
        used = sum(
            status.used
            for status in limit_snapshot.statuses
            if (status.scope, status.kind, status.window) == USER_IMAGES_PER_DAY
        )
        unpriced = MODEL in running.gateway.catalog.unpriced
        cost = "cost unknown: the catalog has no price yet" if unpriced else "cost in `koi usage`"
        print_line(f"  used      {used} {'image' if used == 1 else 'images'} today ({cost})")

    def _print_snippets(self, secret: str) -> None:
        words = {
            "url": self.url,
            "page": f"{self.url.removesuffix('/v1')}/",
            "key": secret,
            "admin_key": self.admin_key,
            "model": MODEL,
            "koi": _koi_command(),
        }
        print_line(Template(SNIPPETS).substitute(words))


async def _revoke_earlier(keys: KeyAdmin) -> None:
    """The key of a demo that is over ends, since nobody can read its secret again."""
    now_ms = time.time() * 1000
    earlier = [key for key in await keys.keys(USER) if key.name == KEY_NAME]
    for key in earlier:
        if key.is_usable(round(now_ms)):
            await keys.revoke(key.id)


def generate(url: str, secret: str, *, fresh: bool) -> DemoImage:
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
    return DemoImage(
        body=base64.b64decode((images[0].b64_json if images else None) or ""),
        task_id=raw.headers.get("x-koi-task-id", "unknown"),
        cache=raw.headers.get("x-koi-cache", "unknown"),
        took_s=time.monotonic() - began,
    )


def _koi_command() -> str:
    """How to call this program from here, to be pasted."""
    called = Path(sys.argv[0])
    return os.path.relpath(called) if called.name == "koi" and not shutil.which("koi") else "koi"


def _save_image(body: bytes) -> Path:
    """`koi-demo.jpg`, or whatever the bytes are; replaced whole when it is there already."""
    seen = detect_image(body)
    path = Path(f"koi-demo.{seen.extension if seen else 'bin'}")
    part = path.with_suffix(".part")
    try:
        part.write_bytes(body)
        os.replace(part, path)
    except OSError as error:
        raise CommandFailed(f"Cannot write {path} here ({error.strerror}).") from None
    return path
