"""The operator's page while no model has a price: what is spent is unknown there, and never 0."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.adapters.embedded.store import EmbeddedStore
from tests.console.conftest import ROOT
from tests.console.test_operator import make, show
from tests.console.visitor import Visitor
from tests.harness import Koi, gateway, quick_sandbox


@pytest.fixture(scope="module")
def koi(store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Koi]:
    """With the catalog as shipped."""
    data: Path = tmp_path_factory.mktemp("koi")
    with (
        quick_sandbox() as provider,
        gateway(provider, store.url, data, admin_key=ROOT, catalog=None) as running,
    ):
        make(running, "ann", n=2)
        yield running


@pytest.fixture
def operator(visitor: Visitor) -> Visitor:
    visitor.sign_in(ROOT, "operator")
    return visitor


def test_what_the_house_and_a_person_spent_is_unknown(operator: Visitor) -> None:
    page = operator.page
    show(page, "")
    cost = page.locator(".figure").filter(has_text="Cost today")
    expect(cost).to_contain_text("unknown")
    expect(cost).not_to_contain_text("0.00")
    show(page, "people")
    row = page.get_by_role("row").filter(has_text="ann")
    expect(row).to_contain_text("unknown")
    expect(row).not_to_contain_text("0.00")
    operator.assert_accessible()


def test_a_bill_agrees_but_for_the_amounts(operator: Visitor, koi: Koi) -> None:
    page = operator.page
    show(page, "money")
    bill = koi.sandbox.fee_details().encode()
    page.get_by_label("Fee details").set_input_files(
        {"name": "fees.csv", "mimeType": "text/csv", "buffer": bill}
    )
    expect(page.get_by_text("so amounts were not compared")).to_be_visible()
    expect(page.get_by_text("the bill and the ledger agree")).to_have_count(0)
    matched = page.get_by_role("row").filter(has_text="0.28")
    expect(matched).to_contain_text("unknown")
    operator.assert_accessible()


def test_a_spend_alert_is_refused_with_its_reason(operator: Visitor) -> None:
    page = operator.page
    show(page, "alerts")
    page.get_by_role("button", name="New alert").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Spent in a month").fill("100")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("no price in the catalog")).to_be_visible()
    operator.assert_accessible()
