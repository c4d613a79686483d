"""Without prices no cost is known to be 0, and no money budget can be kept: each place says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.sandbox.server import Sandbox
from tests.flow.command import Cli, served_by
from tests.flow.test_cli_doctor import found
from tests.harness import quick_sandbox
from tests.ports import free_port


@pytest.fixture(scope="module")
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def cli(provider: Sandbox, tmp_path: Path) -> Cli:
    """A deployment with the catalog as shipped, which has no prices."""
    settings = {**served_by(provider.url), "KOI_PORT": str(free_port())}
    del settings["KOI_CATALOG"]
    return Cli(tmp_path, settings)


def failures(cli: Cli, code: int = 1) -> list[str]:
    return [
        f"{one['text']} -> {one['mend']}" for one in found(cli, code) if one["status"] == "fail"
    ]


@pytest.mark.parametrize(
    ("variable", "refused"),
    [
        ("KOI_HOUSE_BUDGET_PER_MONTH", "every picture of grok-imagine is refused (price_unknown)"),
        ("KOI_HOUSE_BUDGET_PER_DAY", "every picture of grok-imagine is refused (price_unknown)"),
        ("KOI_DEFAULT_BUDGET_PER_MONTH", "no user can be created with it"),
        ("KOI_DEFAULT_BUDGET_PER_DAY", "no user can be created with it"),
    ],
)
def test_the_doctor_fails_a_budget_of_the_settings_without_prices(
    cli: Cli, variable: str, refused: str
) -> None:
    cli.settings[variable] = "10"

    (failure,) = failures(cli)

    assert failure.startswith(f"{variable} cannot be kept, since no price is known for ")
    assert refused in failure
    assert "[models.prices] in a copy of app/catalog.toml" in failure
    assert failure.endswith(f"or remove {variable}.")


def test_a_gateway_starts_with_such_a_budget_and_warns_what_to_do(cli: Cli) -> None:
    """One that runs comes up again after an upgrade; what answers from its cache still does."""
    cli.settings |= {"KOI_HOUSE_BUDGET_PER_MONTH": "10", "KOI_DEFAULT_BUDGET_PER_DAY": "1"}
    with cli.forked() as serving:
        warnings = serving.wait_for("budget_cannot_be_kept", times=2)

    assert [one["level"] for one in warnings] == ["warning"] * 2
    assert [one["found"].split()[0] for one in warnings] == [
        "KOI_HOUSE_BUDGET_PER_MONTH",
        "KOI_DEFAULT_BUDGET_PER_DAY",
    ]
    assert all("[models.prices]" in one["fix"] for one in warnings)


def test_with_prices_or_without_budgets_the_start_warns_of_nothing(cli: Cli) -> None:
    with cli.forked() as unlimited:
        unlimited.wait_for("provider_checked")
        assert unlimited.events("budget_cannot_be_kept") == []
    cli.settings |= {"KOI_HOUSE_BUDGET_PER_MONTH": "10", **priced()}
    with cli.forked() as serving:
        serving.wait_for("provider_checked")
        assert serving.events("budget_cannot_be_kept") == []
    assert failures(cli, code=0) == []


def test_the_doctor_names_budgets_and_alerts_that_were_set_while_there_were_prices(
    cli: Cli,
) -> None:
    before = {**cli.settings}
    cli.settings |= priced()
    cli.run("teams", "create", "blue", "--budget-per-month", "5")
    cli.run("users", "create", "ann", "--budget-per-day", "5", "--team", "blue")
    cli.run("users", "create", "bob", "--images-per-day", "5")
    cli.run("users", "create", "gone", "--budget-per-day", "5")
    cli.run("users", "disable", "gone")
    key = cli.json("keys", "create", "--user", "bob", "--budget-per-day", "5")["key_id"]
    alert = cli.json("alerts", "create", "100.00")["id"]
    assert failures(cli, code=0) == []
    cli.settings = before

    (failure,) = failures(cli)
    warnings = [one["text"] for one in found(cli, code=1) if one["status"] == "warn"]

    assert f"with a money budget: team blue, user ann, key {key} -> " in failure
    assert any(alert in text for text in warnings)


def priced() -> dict[str, str]:
    return {"KOI_CATALOG": served_by("http://127.0.0.1:9")["KOI_CATALOG"]}
