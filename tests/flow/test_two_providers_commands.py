"""The operator's commands where there is a second provider: start, doctor, bill, probe, cancel."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.images import GenerationRequest
from app.domain.job import new_job_id
from app.domain.ledger import AdmissionRequest, DedupKeys
from app.domain.limits import Limits, Scope, ScopeKind
from app.domain.principal import CachePolicy, Principal
from app.sandbox.server import Sandbox
from app.settings import build_settings
from app.wiring.operator import OperatorContext, open_operator_context
from tests.flow.command import Cli, served_by
from tests.flow.two_providers import (
    GENERATE,
    HERE,
    KEYS,
    MODELS,
    THERE,
    VARIABLE,
    order,
    section,
    write_catalog,
)
from tests.harness import gateway, quick_sandbox


@pytest.fixture
def second() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def cli(sandbox: Sandbox, second: Sandbox, tmp_path: Path) -> Cli:
    catalog = write_catalog(tmp_path / "two.toml", section(second.url), MODELS)
    settings = {**served_by(sandbox.url), "KOI_CATALOG": str(catalog), "KOI_PORT": "0", **KEYS}
    return Cli(tmp_path, settings)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({VARIABLE: ""}, "provider second: the variable SECOND_API_KEY is not set"),
        ({VARIABLE: "changeme"}, "provider second: SECOND_API_KEY is blank or a sample value"),
        ({VARIABLE: "sk-\nbroken"}, "provider second: SECOND_API_KEY has a line break inside"),
    ],
)
def test_a_start_without_the_key_of_a_provider_is_one_sentence(
    cli: Cli, wrong: dict[str, str], says: str
) -> None:
    cli.settings.update(wrong)

    assert says in cli.refused("serve", code=1)


def test_the_doctor_asks_both_providers(cli: Cli, second: Sandbox) -> None:
    good = {f["check"]: f["status"] for f in cli.json("doctor")}
    cli.settings[VARIABLE] = "sk-of-somebody-else"
    refused = [f for f in cli.json("doctor", code=1) if f["check"] == "provider second"]

    assert (good["provider"], good["provider second"]) == ("ok", "ok")
    assert "refuses the upstream key (401)" in refused[0]["text"]
    assert "Check SECOND_API_KEY" in refused[0]["mend"]
    assert second.posts == 0


def test_the_doctor_names_a_provider_that_left_while_it_has_jobs(cli: Cli) -> None:
    async def open_job(operator: OperatorContext) -> None:
        scopes = (Scope(ScopeKind.USER, "ann", Limits()),)
        principal = Principal("key_1", "ann", None, scopes, CachePolicy.PRIVATE, None)
        request = GenerationRequest(THERE, "a koi", 1, "1024x1024", "standard")
        admission = AdmissionRequest(
            new_job_id(), principal, request, (1,), 1, DedupKeys("body"), 60_000, provider="second"
        )
        await operator.ledger.admit(admission)

    async def work() -> None:
        async with open_operator_context(build_settings(data_dir=cli.path / ".koi")) as operator:
            await open_job(operator)

    asyncio.run(work())
    fine = {f["check"]: f["status"] for f in cli.json("doctor")}
    write_catalog(cli.path / "two.toml")
    [left] = [f for f in cli.json("doctor", code=1) if f["check"] == "provider second"]

    assert fine["provider second"] == "ok"
    assert left["text"] == "open jobs: 1, and it is not in the catalog"
    assert "[[providers]]" in left["mend"]


def test_a_bill_is_compared_with_the_charges_of_its_provider(
    sandbox: Sandbox, second: Sandbox, cli: Cli, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEYS[VARIABLE])
    data_dir = cli.path / "koi"
    cli.settings |= {"KOI_REDIS_URL": store_url, "KOI_DATA_DIR": str(data_dir)}
    with (
        gateway(sandbox, store_url, data_dir, catalog=cli.path / "two.toml") as koi,
        koi.client() as client,
    ):
        for model, n in ((HERE, 1), (THERE, 2), (HERE, 1)):
            answer = client.post(GENERATE, json=order(model, f"{model} {n}", n=n))
            assert answer.status_code == 200
        koi.settled()
    (cli.path / "second.csv").write_text(second.fee_details())
    ours = "ledger", "import-bill", "second.csv"

    report = cli.json(*ours, "--provider", "second")
    mistaken = cli.json(*ours, code=1)

    assert report["differences"] == []
    assert mistaken["agrees"] is False


def test_a_probe_asks_the_provider_that_is_named(
    cli: Cli, sandbox: Sandbox, second: Sandbox
) -> None:
    said = cli.refused("probe", "--provider", "third", code=2)
    cli.run("probe", "--provider", "second", "--budget", "0", "--yes")

    assert "no provider 'third'" in said
    assert len(sandbox.requests) == 0
    assert any(b'"grok-imagine"' in request.body for request in second.requests)
