"""The README's picture of the operator's console: `python -m tests.screenshots_operator` writes it
into deploy/screens, beside those of `tests.screenshots`."""

import sys

from playwright.sync_api import Page, sync_playwright

from app.domain.limits import Limits
from app.wiring.operator import OperatorContext
from tests.console.conftest import CHROMIUM, ROOT
from tests.harness import KOI, Koi
from tests.screenshots import FOLDER, demo, look

SIZE = {"width": 1200, "height": 600}
PEOPLE = {"ann": (50, 12), "bob": (20, 17), "cy": (30, 4), "dana": (None, 2)}
"""Name -> images a day, and how many were made."""


def furnish(koi: Koi) -> None:
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


def tour(page: Page) -> None:
    page.goto("/#/operator")
    page.get_by_label("Admin key").fill(ROOT)
    # By mouse, so that nothing has the ring of keyboard focus.
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
    page.get_by_role("link", name="People").click()
    page.get_by_role("link", name="dana").wait_for()
    look(page, "operator")


def main() -> None:
    if CHROMIUM is None:
        sys.exit("There is no Chromium here (Debian: apt-get install chromium).")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with demo() as koi, sync_playwright() as playwright:
        furnish(koi)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(base_url=koi.url, viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        tour(page)
        browser.close()


if __name__ == "__main__":
    main()
