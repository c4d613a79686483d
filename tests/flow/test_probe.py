"""`koi probe` finds out what a provider does, and pays for no question twice."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.probe.answers import ANSWERS_FILE
from app.probe.conversation import ProbeStep
from app.probe.facts import ProviderFacts
from app.probe.questions import Terms
from app.sandbox.contract import Problem, Profile
from app.sandbox.profiles import PROFILES
from app.sandbox.recorded import read_recorded
from app.sandbox.server import Sandbox
from app.sandbox.switches import Switches
from tests.flow.command import Cli, served_by
from tests.flow.probing import (
    Probed,
    ProbeProcess,
    Probing,
    bought,
    default_model,
    played_back,
    quick,
    run_all,
    running_sandbox,
    sandboxes,
    wait_for,
)

BALANCE = "doc with a balance"
MODERATION = {"loud": "[fault:moderation-400]", "silent": "[fault:moderation-200]"}
BAD_KEY = "Incorrect API key provided"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Probed]:
    """Every profile, probed; a provider that tells the balance; one that bills what it refuses."""
    directory = tmp_path_factory.mktemp("first")
    with (
        sandboxes(list(PROFILES), directory) as probings,
        quick(Sandbox(), billing_route=True) as rich,
        quick(Sandbox(), moderation_billed=True) as loud,
        quick(Sandbox(), moderation_billed=True) as silent,
    ):
        probings.append(Probing(BALANCE, rich, directory / "balance"))
        for name, sandbox in (("loud", loud), ("silent", silent)):
            terms = Terms(default_model(), 60, MODERATION[name])
            probings.append(Probing(name, sandbox, directory / name, terms))
        return run_all(probings)


@pytest.fixture(scope="module")
def second(first: dict[str, Probed], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Probed]:
    """The same probes of sandboxes that play back what was found."""
    profiles = {name: first[name] for name in PROFILES}
    with played_back(profiles, tmp_path_factory.mktemp("second")) as probings:
        return run_all(probings)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with quick(Sandbox()) as running:
        yield running


@pytest.fixture
def probe(sandbox: Sandbox, tmp_path: Path) -> ProbeProcess:
    return ProbeProcess(Cli(tmp_path, served_by(sandbox.url)))


def semantics(profile: Profile) -> dict[str, Any]:
    """What a probe should find out about a built-in profile."""
    sizeless = "size" in profile.forbidden_fields
    return {
        "tasks": profile.tasks,
        "default_format": "url" if profile.url_only else profile.default_format,
        "url_only": profile.url_only,
        "ignores_size": None if sizeless else profile.ignores_size,
        "pixel_exact": None if sizeless or profile.ignores_size else True,
        "strict_size": None if sizeless else not profile.ignores_size,
        "strict_quality": None if sizeless else not profile.ignores_size,
        "strict_fields": False,
        "forbidden_fields": profile.forbidden_fields,
        "relative_links": profile.relative_links,
        "data_prefix": None if profile.url_only else profile.data_prefix,
        "running_status": None if profile.tasks == "never" else profile.running_status,
        "image_format": "jpeg",
        "revised_prompt": found_prompt(profile),
        "link_ttl_s": 86_400,
    }


def found_prompt(profile: Profile) -> str:
    """These profiles list links alone."""
    links_only = ("evolink", "apimart", "toapis", "dashscope")
    return "absent" if profile.name in links_only else "present"


@pytest.mark.parametrize("name", PROFILES)
def test_a_probe_tells_the_truth_about_each_profile(first: dict[str, Probed], name: str) -> None:
    profile, facts = PROFILES[name], first[name].facts

    wanted = semantics(profile)

    assert {key: getattr(facts, key) for key in wanted} == wanted
    assert_errors_are_those_of(profile, facts)
    assert_words_are_those_of(profile, facts)


def assert_errors_are_those_of(profile: Profile, facts: ProviderFacts) -> None:
    refused = Problem(profile.bad_key_status, "invalid_api_key", BAD_KEY, "authentication_error")
    unknown = Problem(404, "model_not_found", "no model koi-probe-no-such-model", param="model")
    assert facts.refusals["bad_key"] == profile.error(refused)
    assert facts.refusals["bad_model"] == profile.error(unknown)
    missing = profile.missing("task_" + "0" * 24, Switches())
    assert facts.refusals["unknown_task"][0] == missing[0]
    assert facts.refusals["malformed_task"][0] == profile.missing("koi-probe", Switches())[0]


def assert_words_are_those_of(profile: Profile, facts: ProviderFacts) -> None:
    if profile.tasks == "never":
        assert facts.task_id is None
        assert "submit" not in facts.bodies
        return
    assert facts.task_id is not None
    assert (facts.task_id.prefix, facts.task_id.length) == ("task_", 24)
    words = {
        "doc": ("queued", "processing", "completed"),
        "doc-bare": ("queued", "processing", None),
        "oneapi200": ("queued", "processing", "completed"),
        "lemondata": ("pending", "processing", "completed"),
        "evolink": ("pending", "processing", "completed"),
        "apimart": ("submitted", "processing", "completed"),
        "toapis": ("queued", "in_progress", "completed"),
        "newapi": ("NOT_START", "IN_PROGRESS", "SUCCESS"),
        "dashscope": ("PENDING", "RUNNING", "SUCCEEDED"),
        "xai-raw": ("pending", "pending", None),
    }[profile.name]
    found = tuple(facts.words.get(key) for key in ("queued", "processing", "completed"))
    assert found == words


@pytest.mark.parametrize("name", PROFILES)
def test_a_sandbox_that_plays_a_profile_back_is_found_to_be_the_same(
    first: dict[str, Probed], second: dict[str, Probed], name: str
) -> None:
    assert second[name].profile == first[name].profile
    assert second[name].facts == first[name].facts


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_probe_counts_is_on_the_bill(
    first: dict[str, Probed], second: dict[str, Probed], name: str
) -> None:
    for probed in (first[name], second[name]):
        # A busy machine may hang up before the sandbox has read that request.
        assert probed.billed <= probed.paid <= probed.billed + 1


def test_a_balance_tells_what_each_question_cost(first: dict[str, Probed]) -> None:
    report = first[BALANCE].report

    assert re.search(r"client hung up\? \| Yes \| balance: total_used \+0\.14", report)
    assert "many: total_used +0.28" in report
    assert "bad_size: nothing" in report


@pytest.mark.parametrize("name", MODERATION)
def test_a_refused_prompt_counts_as_paid_since_it_may_be_billed(
    first: dict[str, Probed], name: str
) -> None:
    probed = first[name]

    assert probed.billed <= probed.paid <= probed.billed + 1
    assert re.search(r"refused prompt get\? \| .*billed perhaps", probed.report)
    assert "compare with the fee details" in probed.report


def test_what_was_never_seen_comes_in_the_envelope_of_what_was(
    first: dict[str, Probed], tmp_path: Path
) -> None:
    empty = Problem(402, "insufficient_balance", "no money", "billing_error")
    slow = Problem(429, "rate_limit_exceeded", "too fast", "rate_limit_error")
    for name in PROFILES:
        (tmp_path / name).write_text(first[name].profile)
        recorded = read_recorded(tmp_path / name).profile

        for problem in (empty, slow):
            status, body = PROFILES[name].error(problem)
            if name == "xai-raw":  # its code for a wrong key is that of every 400
                body["code"] = problem.code
            assert recorded.error(problem) == (status, body)


def test_the_report_has_a_row_for_each_question_and_names_settings(
    first: dict[str, Probed],
) -> None:
    report = first["doc"].report

    rows = [line for line in report.splitlines() if line.startswith("| ")]
    assert len(rows) > 40
    assert len({line.count(" | ") for line in rows[:20]}) == 1
    assert '`modes = ["async", "sync"]`' in report
    assert "Not asked" in report


def test_nothing_is_spent_without_a_yes(probe: ProbeProcess, sandbox: Sandbox) -> None:
    for answer in ("n", None):
        _, err = probe.run(answer=answer, code=1)

        assert "up to 12 images of grok-imagine" in err
        assert re.search(r"at most \d+\.\d\d CNY", err)
    assert sandbox.billed_images == 0
    assert probe.records("sent") == []
    assert "What does a wrong key get?" in (probe.cli.path / "koi-probe/report.md").read_text()


def test_killed_and_interrupted_it_goes_on_and_pays_nothing_twice(
    probe: ProbeProcess, sandbox: Sandbox
) -> None:
    for images in (1, 3):
        # Agreed to once, it does not ask again.
        process = probe.start("--budget", "14", answer="y" if images == 1 else None)
        wait_for(lambda images=images: sandbox.billed_images >= images, process)
        process.kill()
        process.communicate()
    lost = {r["question"] for r in probe.records("sent")} - {
        r["question"] for r in probe.records("answered")
    }
    assert "sync" in lost

    process = probe.start("--budget", "14")
    wait_for(lambda: sandbox.billed_images >= 5, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "pays nothing twice" in err

    out, _ = probe.run("--budget", "14", "--json")
    done = json.loads(out)
    posts = sandbox.posts
    again, _ = probe.run("--budget", "14", "--json")

    assert json.loads(again) == done
    assert "never sent again" in (probe.cli.path / "koi-probe/report.md").read_text()
    assert sandbox.posts == posts
    assert sandbox.billed_images <= done["images_paid"] <= 14
    sent = [record["question"] for record in probe.records("sent")]
    assert len(sent) == len(set(sent))
    for body, times in bought(sandbox).items():
        # A plain body is that of three questions: sync, repeat, hang_up.
        plain = body.endswith(b"}") and set(json.loads(body)) == {"model", "prompt"}
        assert times <= (3 if plain else 1), body


def test_a_budget_is_never_exceeded_and_a_larger_one_asks_the_rest(
    probe: ProbeProcess, sandbox: Sandbox
) -> None:
    probe.run("--budget", "2", "--yes")
    assert sandbox.billed_images == 2
    first = {record["question"] for record in probe.records("sent")}

    probe.run("--budget", "4", "--yes")

    assert sandbox.billed_images == 4
    assert first < {record["question"] for record in probe.records("sent")}


def test_neither_the_key_nor_a_signed_link_is_printed_or_kept(
    probe: ProbeProcess, sandbox: Sandbox
) -> None:
    out, err = probe.run("--budget", "3", "--yes")

    kept = [file.read_text() for file in (probe.cli.path / "koi-probe").iterdir()]
    for text in (out, err, *kept):
        assert Sandbox.key not in text
        assert "signature" not in text
        assert "/cdn/" not in text
    file = probe.cli.path / "koi-probe" / ANSWERS_FILE
    assert file.stat().st_mode & 0o077 == 0


def test_a_key_that_is_refused_ends_the_probe(probe: ProbeProcess, sandbox: Sandbox) -> None:
    (probe.cli.path / "key").write_text("sk-wrong\n")

    _, err = probe.run("--key-file", "key", "--yes", code=1)

    assert "refuses the key; nothing was spent" in err
    assert sandbox.posts == 0
    probe.run(answer="n", code=1)  # with the right key it goes on


def test_an_empty_balance_ends_the_paid_questions(probe: ProbeProcess, sandbox: Sandbox) -> None:
    (probe.cli.path / "key").write_text("sk-broke\n")

    out, err = probe.run("--key-file", "key", "--yes", "--json", code=1)

    assert "refuses this account" in err
    assert json.loads(out)["images_paid"] == 0
    assert [record["question"] for record in probe.records("sent")] == ["no_prompt"]
    report = (probe.cli.path / "koi-probe/report.md").read_text()
    assert "Does the provider take our account? | No" in report
    assert "What does a request without prompt get?" not in report.partition("## Not asked")[0]
    profile = (probe.cli.path / "koi-probe/profile.toml").read_text()
    assert "[errors.empty_balance]\nstatus = 402" in profile


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:99999/v1", "--base-url has a port"),
        ("127.0.0.1/v1", "--base-url must be an http(s) URL"),
        ("https://sk-1@a.example/v1", "--base-url holds a name or password"),
    ],
)
def test_an_address_that_cannot_be_called_is_told_by_its_option(
    probe: ProbeProcess, url: str, says: str
) -> None:
    _, err = probe.run("--base-url", url, code=2)

    assert says in err
    assert "sk-1" not in err


def test_answers_about_two_providers_are_not_mixed(probe: ProbeProcess) -> None:
    probe.run(answer="n", code=1)
    probe.cli.settings["KOI_UPSTREAM_BASE_URL"] = "http://127.0.0.1:9/v1"

    _, err = probe.run(answer="n", code=2)

    assert "choose another directory" in err


def test_a_provider_that_is_away_costs_nothing_and_can_be_asked_again(
    probe: ProbeProcess, sandbox: Sandbox
) -> None:
    probe.cli.settings["KOI_UPSTREAM_BASE_URL"] = "http://127.0.0.1:9/v1"

    _, err = probe.run("--yes", "--out", "away", code=1)

    assert "cannot be reached" in err
    assert sandbox.posts == 0


def test_a_provider_that_asks_to_slow_down_is_waited_for(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.set(burst=3, retry_after_form="int")
    probing = Probing("doc", sandbox, tmp_path / "p")

    found = asyncio.run(probing.run(ProbeStep.FREE))

    assert found.facts.retry_after_form == "int"
    assert "What does a request too many get? | HTTP 429" in found.report
    assert found.facts.refusals["no_route"][0] == 404


def test_a_later_run_reads_the_same_task_and_says_how_long_it_stays(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    probing = Probing("doc", sandbox, tmp_path / "p", Terms(default_model(), 2))
    asyncio.run(probing.run())
    answers = tmp_path / "p" / ANSWERS_FILE
    hour_ago = re.sub(
        r'"at": (\d+)', lambda found: f'"at": {int(found[1]) - 3600}', answers.read_text()
    )
    answers.write_text(hour_ago)

    there = asyncio.run(probing.run(ProbeStep.AFTER)).report
    answers.write_text(re.sub(r'("event": "later".*"at": )\d+', r"\g<1>1", answers.read_text()))
    sandbox.advance(2 * 86_400)
    answers.write_text(answers.read_text().replace('"event": "later"', '"event": "earlier"'))
    gone = asyncio.run(probing.run(ProbeStep.AFTER)).report

    assert re.search(r"after 36\d\d s the task is still there; its link works", there)
    assert "the task is gone (missing)" in gone
    assert sandbox.billed_images == 2


def test_the_sandbox_plays_a_file_back_and_refuses_another(
    first: dict[str, Probed], tmp_path: Path
) -> None:
    cli = Cli(tmp_path)
    (tmp_path / "profile.toml").write_text(first["newapi"].profile)
    (tmp_path / "odd.toml").write_text("format = 9\n")

    assert "is no profile" in cli.refused("sandbox", "--profile", "odd.toml", code=2)
    assert "a file of `koi probe`" in cli.refused("sandbox", "--profile", "none", code=2)
    with running_sandbox(cli, "profile.toml") as url:
        state = httpx.get(url.replace("/v1", "/__sim/state")).json()
        task = httpx.get(f"{url}/tasks/task_x", headers={"authorization": "Bearer sk-sandbox"})
    assert state["profile"] == "newapi"
    assert task.json()["code"] == "task_not_exist"
