"""The README's pictures of the page: `make screens` renews those that changed in deploy/screens.

A gateway like the demo's, with people, pictures, limits and a refused prompt, seen in Chromium.
What differs from run to run (ids, ports, times) is written over before a picture is taken.
"""

import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import httpx
from PIL import Image, ImageChops
from playwright.sync_api import Browser, Page, sync_playwright

from app.adapters.embedded.store import EmbeddedStore
from app.domain.limits import Limits
from app.sandbox.server import Sandbox
from app.telemetry.logs import configure
from app.wiring.operator import OperatorContext
from tests.console.conftest import CHROMIUM, ROOT
from tests.harness import KOI, Koi, gateway

FOLDER = Path("deploy/screens")
HOLDER_WIDTH, OPERATOR_WIDTH = 960, 1200
SCREENS = {"left": "", "pictures": "pictures", "tasks": "tasks", "try": "try", "keys": "keys"}
PROMPTS = ("a koi in a nebula", "a paper lantern at dusk", "a red bridge in the snow")
PEOPLE = {"bob": (50, 12), "cy": (20, 17), "dana": (30, 4), "eve": (None, 2)}
"""Name -> images a day, and how many were made."""
MAX_DIFFERENT_PIXELS = 50
"""Edges of letters that a browser draws a shade lighter or darker."""
WRITE_OVER = """() => {
  for (const time of document.querySelectorAll('time')) time.textContent = '1 minute ago';
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const zeros = (found, prefix, rest) => prefix + '0'.repeat(rest.length);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    node.data = node.data
      .replace(/((?:task|key|img|req)_)([0-9a-f]{4,})/g, zeros)
      .replace(/(\\u2026|\\.{3}|\\*{3,})([A-Za-z0-9_-]{4,})/g, zeros)
      .replace(/127\\.0\\.0\\.1:[0-9]+/g, '127.0.0.1:8000')
      .replace(/\\b[0-9]{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\\b/g, '1 Jan');
  }
}"""


@contextmanager
def demo() -> Iterator[Koi]:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedStore(Path(folder) / "store") as store,
        Sandbox(time_scale=0.01) as provider,
        gateway(provider, store.url, Path(folder) / "koi", admin_key=ROOT) as koi,
    ):
        yield koi


def furnish_holder(koi: Koi) -> str:
    """A holder with a past; their key."""

    async def limit(operator: OperatorContext) -> None:
        user = await operator.keys.user("ann")
        limits = Limits(images_per_day=50, images_per_month=400)
        await operator.keys.change(user, replace(user, limits=limits))

    secret = koi.key("ann", name="laptop")
    koi.key("ann", name="design tool")
    koi.operate(limit)
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=koi.url, headers=headers, timeout=30) as client:
        for prompt in PROMPTS[:2]:
            client.post("/v1/images/generations", json={**KOI, "prompt": prompt, "n": 2})
        koi.sandbox.script("moderation-400")
        client.post("/v1/images/generations", json={**KOI, "prompt": "something refused"})
    return secret


def furnish_team(koi: Koi) -> None:
    """A team at work."""

    async def hire(operator: OperatorContext) -> None:
        await operator.keys.create_team("studio", Limits(images_per_day=200))
        for name, (most, _) in PEOPLE.items():
            limits = Limits(images_per_day=most)
            await operator.keys.create_user(name, team="studio", limits=limits)

    koi.operate(hire)
    for name, (_, made) in PEOPLE.items():
        with koi.client(koi.key(name, name="laptop"), timeout=60) as client:
            for number, n in enumerate([10] * (made // 10) + [made % 10]):
                body = {**KOI, "prompt": f"{name} {number}", "n": n}
                client.post("/v1/images/generations", json=body)
    koi.settled(30)


def look(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    # Not `wait_for_function`: the page's policy forbids what it does in the page.
    while not page.evaluate("[...document.images].every((image) => image.complete)"):
        page.wait_for_timeout(50)
    page.wait_for_timeout(300)
    page.evaluate(WRITE_OVER)
    taken = page.screenshot(animations="disabled", caret="hide")
    path = FOLDER / f"{name}.png"
    if path.exists() and is_same(path.read_bytes(), taken):
        print(f"{path} as before")
        return
    path.write_bytes(taken)
    print(f"{path} {len(taken)} bytes, renewed")


def is_same(before: bytes, after: bytes) -> bool:
    """Whether two pictures look the same."""
    one, other = (Image.open(io.BytesIO(body)).convert("RGB") for body in (before, after))
    if one.size != other.size:
        return False
    different = ImageChops.difference(one, other).convert("L").point(lambda level: level > 8)
    return different.histogram()[1] <= MAX_DIFFERENT_PIXELS


@contextmanager
def opened(
    browser: Browser, koi: Koi, width: int, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Page]:
    context = browser.new_context(
        base_url=koi.url,
        viewport={"width": width, "height": 560 if width == HOLDER_WIDTH else 600},
        color_scheme=scheme,
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    yield context.new_page()
    context.close()


def sign_in(page: Page, way: str, label: str, key: str) -> None:
    page.goto(f"/#/{way}")
    page.get_by_label(label).fill(key)
    # By mouse, so that nothing has the ring of keyboard focus.
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def tour_holder(page: Page, key: str) -> None:
    page.goto("/")
    look(page, "start")
    sign_in(page, "sign-in", "Your API key", key)
    for name, path in SCREENS.items():
        page.goto(f"/#/{path}")
        page.locator("h1").wait_for()
        if name == "pictures":
            page.locator(".gallery img").first.wait_for()
        if name == "try":
            page.get_by_label("Prompt").fill(PROMPTS[0])
        look(page, name)


def tour(browser: Browser, koi: Koi) -> None:
    key = furnish_holder(koi)
    with opened(browser, koi, HOLDER_WIDTH) as page:
        tour_holder(page, key)
    with opened(browser, koi, HOLDER_WIDTH, "dark") as page:
        sign_in(page, "sign-in", "Your API key", key)
        look(page, "left-dark")
    furnish_team(koi)
    with opened(browser, koi, OPERATOR_WIDTH) as page:
        sign_in(page, "operator", "Admin key", ROOT)
        page.get_by_role("link", name="People").click()
        page.get_by_role("link", name="eve").wait_for()
        look(page, "operator")


def main() -> None:
    if CHROMIUM is None:
        sys.exit("There is no Chromium here (Debian: apt-get install chromium-headless-shell).")
    configure("console", "error")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with demo() as koi, sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        tour(browser, koi)
        browser.close()


if __name__ == "__main__":
    main()
