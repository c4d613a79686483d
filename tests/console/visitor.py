"""A person in front of the page."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from tests.harness import Koi

AXE = Path("tests/sdk/node/node_modules/axe-core/axe.min.js")
SERIOUS = {"serious", "critical"}
EXPECTED = ("the server responded with a status of", "net::ERR_")
"""The browser's own line about an answer that the page deals with."""


def watch(page: Page) -> list[str]:
    """What goes wrong in a page from now on: exceptions, and what its policy refuses."""
    troubles: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(one in message.text for one in EXPECTED):
            troubles.append(message.text)

    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", hear)
    return troubles


@dataclass
class Visitor:
    page: Page
    koi: Koi

    def sign_in(self, key: str, where: str = "sign-in") -> None:
        self.page.goto(f"/#/{where}")
        self.page.get_by_label("key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def go(self, title: str) -> None:
        self.page.get_by_role("navigation").get_by_role("link", name=title).click()

    def assert_accessible(self) -> None:
        """No serious or critical violation of what axe can check."""
        found = run_axe(self.page)
        serious = [
            (one["id"], [node["html"][:200] for node in one["nodes"]])
            for one in found
            if one["impact"] in SERIOUS
        ]
        assert serious == [], json.dumps(serious, indent=1)


@cache
def _axe() -> str:
    if not AXE.exists():
        pytest.skip("no axe-core here (npm install in tests/sdk/node)")
    return AXE.read_text()


def run_axe(page: Page) -> list[dict[str, Any]]:
    """Run axe in a world of its own, which the page's policy does not reach."""
    page.evaluate(_axe() + "; 0")
    violations: list[dict[str, Any]] = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"
    )
    return violations
