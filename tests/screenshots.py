"""The README's pictures of the page: `python -m tests.screenshots` writes them into deploy/screens.

A gateway like the demo's, with pictures, limits and a refused prompt, seen in Chromium.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

from app.adapters.embedded.store import EmbeddedStore
from app.domain.limits import Limits
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.console.conftest import CHROMIUM, ROOT
from tests.harness import KOI, Koi, gateway

FOLDER = Path("deploy/screens")
SIZE = {"width": 960, "height": 560}
SCREENS = {"left": "", "pictures": "pictures", "tasks": "tasks", "try": "try", "keys": "keys"}
PROMPTS = ("a koi in a nebula", "a paper lantern at dusk", "a red bridge in the snow")


@contextmanager
def demo() -> Iterator[Koi]:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedStore(Path(folder) / "store") as store,
        Sandbox(time_scale=0.01) as provider,
        gateway(provider, store.url, Path(folder) / "koi", admin_key=ROOT) as koi,
    ):
        yield koi


def furnish(koi: Koi) -> str:
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


def look(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    # Not `wait_for_function`: the page's policy forbids what it does in the page.
    while not page.evaluate("[...document.images].every((image) => image.complete)"):
        page.wait_for_timeout(50)
    page.wait_for_timeout(300)
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    print(path, path.stat().st_size)


def tour(page: Page, key: str) -> None:
    page.goto("/")
    look(page, "start")
    page.goto("/#/sign-in")
    page.get_by_label("Your API key").fill(key)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Sign out").wait_for()
    for name, path in SCREENS.items():
        page.goto(f"/#/{path}")
        page.locator("h1").wait_for()
        if name == "pictures":
            page.locator(".gallery img").first.wait_for()
        if name == "try":
            page.get_by_label("Prompt").fill(PROMPTS[0])
        look(page, name)


def main() -> None:
    if CHROMIUM is None:
        sys.exit("There is no Chromium here (Debian: apt-get install chromium).")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with demo() as koi, sync_playwright() as playwright:
        key = furnish(koi)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for suffix, scheme in (("", "light"), ("-dark", "dark")):
            context = browser.new_context(base_url=koi.url, viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type]
            if suffix:
                page = context.new_page()
                page.goto("/#/sign-in")
                page.get_by_label("Your API key").fill(key)
                page.keyboard.press("Enter")
                page.get_by_role("button", name="Sign out").wait_for()
                look(page, f"left{suffix}")
            else:
                tour(context.new_page(), key)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
