"""`koi probe`: asks a real provider how it behaves, and names the price first."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from app.cli.errors import EXIT_FAILED, CommandFailed, usage_error
from app.cli.options import AsJson, require_text
from app.cli.output import print_json, print_line, print_notice
from app.cli.probe_stop import StopOnInterrupt
from app.cli.session import load_settings_as_reader
from app.domain.money import format_micros

if TYPE_CHECKING:
    from app.domain.catalog import Catalog, Model
    from app.probe.answers import Answers
    from app.probe.calls import ProviderAccess
    from app.probe.questions import Terms
    from app.settings import Settings

EXIT_INTERRUPTED = 130
DEFAULT_BUDGET = 12
PAUSES_IN_A_POLL = 3
"""Requests come this many times as often as polls."""

Budget = Annotated[
    int,
    Parameter(
        help="The most images to pay for, all runs with the same --out together.",
        validator=validators.Number(gte=0, lte=1000),
    ),
]


def probe(  # noqa: PLR0913  one parameter for each option
    *,
    yes: Annotated[bool, Parameter(help="Spend without being asked.")] = False,
    budget: Budget = DEFAULT_BUDGET,
    out: Annotated[Path, Parameter(help="Directory of the answers and the report.")] = Path(
        "koi-probe"
    ),
    key_file: Annotated[
        Path | None, Parameter(help="A file with the key; else KOI_UPSTREAM_API_KEY.")
    ] = None,
    base_url: Annotated[str | None, Parameter(help="Else KOI_UPSTREAM_BASE_URL.")] = None,
    provider: Annotated[
        str | None, Parameter(help="A name of the catalog's [[providers]], with its key.")
    ] = None,
    model: Annotated[
        str | None, Parameter(help="A model of the catalog; else its default, or the provider's.")
    ] = None,
    refused_prompt: Annotated[
        str | None,
        Parameter(help="A prompt that the provider should refuse, to see how; may be billed."),
    ] = None,
    json: AsJson = False,
) -> int:
    """Ask a provider what its documentation leaves open, for a few images.

    Free questions first; then the price is named and you are asked. Every question that can cost
    something is sent once and written down before it leaves: interrupted or killed, the same
    command goes on and pays nothing twice. Run it again after an hour or a day: it reads the same
    tasks, free. Neither the key nor a link is kept.

    Writes report.md (what was answered, and which setting follows) and profile.toml, which
    `koi sandbox --profile koi-probe/profile.toml` plays back.

    Example: koi probe --budget 12 --out koi-probe
    """
    require_text("--refused-prompt", refused_prompt)
    _check_base_url(base_url)
    settings = load_settings_as_reader(upstream_base_url=base_url)
    from app.probe.answers import Answers, ProbeRunning  # noqa: PLC0415 - heavy
    from app.probe.questions import Terms  # noqa: PLC0415
    from app.wiring.catalog_file import read_catalog  # noqa: PLC0415

    catalog = read_catalog(settings)
    if provider is not None:
        settings = _take_provider(settings, catalog, provider)
    terms = Terms(_find_model(catalog, model, provider), budget, refused_prompt)
    access = _access(settings, _read_key(settings, key_file))
    try:
        with Answers(out) as answers:
            _begin(answers, access, terms)
            code = _converse(answers, access, terms, _Consent(catalog, yes))
            _write_files(answers, terms, access.host, catalog, out)
            _print_ending(answers, terms, out, as_json=json)
            return code
    except ProbeRunning:
        raise CommandFailed(f"Another koi probe is at work in {out}; wait for it.") from None
    except OSError as error:
        raise CommandFailed(f"{out} cannot be used ({error.strerror}); choose --out.") from None


def _check_base_url(url: str | None) -> None:
    from app.address_settings import check_http_url  # noqa: PLC0415 - not for the help
    from app.upstream_settings import check_base_url, clean_base_url  # noqa: PLC0415

    if url is not None:
        url = clean_base_url(url)
        for sentence in (*check_http_url("--base-url", url), *check_base_url("--base-url", url)):
            raise usage_error(sentence)


def _read_key(settings: "Settings", key_file: Path | None) -> str:
    from app.upstream_settings import check_key_characters, clean_key  # noqa: PLC0415

    if key_file is None:
        if settings.upstream_key is None:
            raise usage_error("There is no key: set KOI_UPSTREAM_API_KEY, or give --key-file FILE.")
        return settings.upstream_key
    try:
        key = clean_key(key_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise usage_error(f"--key-file cannot be read ({type(error).__name__}).") from None
    for sentence in check_key_characters("--key-file", key):
        raise usage_error(sentence)
    if not key:
        raise usage_error("--key-file is empty.")
    return key


def _take_provider(settings: "Settings", catalog: "Catalog", name: str) -> "Settings":
    from app.domain.catalog import CatalogError  # noqa: PLC0415
    from app.provider_settings import as_main_provider  # noqa: PLC0415

    section = next((one for one in catalog.providers if one.name == name), None)
    if section is None:
        raise usage_error(f"The catalog has no provider {name!r} in [[providers]].")
    try:
        return as_main_provider(settings, section)
    except CatalogError as error:
        raise usage_error(f"{error}.") from None


def _find_model(catalog: "Catalog", name: str | None, provider: str | None) -> "Model":
    of_provider = [m.name for m in catalog.enabled if provider and m.provider == provider]
    found = catalog.find(name or next(iter(of_provider), catalog.default_model))
    if found is None:
        known = ", ".join(model.name for model in catalog.enabled)
        raise usage_error(f"--model knows the enabled models of the catalog: {known}.")
    return found


def _access(settings: "Settings", key: str) -> "ProviderAccess":
    from app.probe.calls import ProviderAccess  # noqa: PLC0415

    poll_s = settings.upstream_poll_interval_s
    return ProviderAccess(
        settings.upstream_base_url,
        key,
        timeout_s=settings.upstream_timeout_s,
        poll_s=poll_s,
        pause_s=poll_s / PAUSES_IN_A_POLL,
    )


def _begin(answers: "Answers", access: "ProviderAccess", terms: "Terms") -> None:
    """The answers of one provider and model stay apart from those of another."""
    about = {"base_url": access.base_url, "model": terms.model.name}
    begun = answers.find("begun")
    if begun is None:
        answers.add("begun", at=time.time(), **about)
    elif any(begun.get(key) != value for key, value in about.items()):
        raise usage_error(
            f"--out holds the answers of {begun.get('model')} at {begun.get('base_url')}; "
            "choose another directory."
        )


class _Consent:
    """Names the price and asks, unless it was agreed to before."""

    def __init__(self, catalog: "Catalog", yes: bool) -> None:
        self._catalog, self._yes = catalog, yes

    def given(self, answers: "Answers", terms: "Terms", host: str, images: int) -> bool:
        agreed = answers.find("agreed")
        if agreed is not None and int(agreed["budget"]) >= terms.budget:
            return True
        print_notice(
            f"The next questions may cost up to {_images(images)} of {terms.model.name} at {host}, "
            f"which is {price_words(self._catalog, terms.model, images)}. What is refused is free."
        )
        if not self._yes and not _ask("Spend that? [y/N] "):
            return False
        answers.add("agreed", at=time.time(), budget=terms.budget)
        return True


def _ask(question: str) -> bool:
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print_notice("")
    return answer.strip().lower() in ("y", "yes")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def price_words(catalog: "Catalog", model: "Model", images: int) -> str:
    """What so many images cost at most, by the catalog."""
    prices = [model.price(s, q) for s in model.sizes for q in model.qualities]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        return "an amount that the catalog does not know"
    return f"at most {format_micros(max(known) * images)} {catalog.currency}"


def _converse(
    answers: "Answers", access: "ProviderAccess", terms: "Terms", consent: _Consent
) -> int:
    from app.probe.conversation import (  # noqa: PLC0415
        ProbeStep,
        has_open_tasks,
        images_at_most,
    )
    from app.probe.parts import KeyRefused, ProbeStopped, ProviderAway  # noqa: PLC0415
    from app.probe.readings import is_hopeless  # noqa: PLC0415

    run = StopOnInterrupt(access, terms, answers)
    try:
        run.ask(ProbeStep.FREE)
        planned = images_at_most(answers, terms)
        if planned and not consent.given(answers, terms, access.host, planned):
            run.ask(ProbeStep.AFTER)
            print_notice("Nothing was spent; the report has what could be asked for free.")
            return EXIT_FAILED
        if planned or has_open_tasks(answers):
            run.ask(ProbeStep.PAID)
        if is_hopeless(answers):
            print_notice(
                f"{access.host} refuses this account, so nothing more was asked; the report says "
                "how. When that is mended, run this with another --out."
            )
            return EXIT_FAILED
        run.ask(ProbeStep.AFTER)
    except KeyRefused:
        raise CommandFailed(
            f"{access.host} refuses the key; nothing was spent. Check KOI_UPSTREAM_API_KEY."
        ) from None
    except ProviderAway:
        raise CommandFailed(
            f"{access.host} cannot be reached; nothing was sent. Check KOI_UPSTREAM_BASE_URL and "
            "run the same command again."
        ) from None
    except ProbeStopped:
        print_notice("Stopped. The same command goes on from here and pays nothing twice.")
        return EXIT_INTERRUPTED
    return 0


def _write_files(
    answers: "Answers", terms: "Terms", host: str, catalog: "Catalog", out: Path
) -> None:
    from app.probe.facts import read_facts  # noqa: PLC0415
    from app.probe.profile_file import profile_toml  # noqa: PLC0415
    from app.probe.report import ReportHead, report_markdown  # noqa: PLC0415

    facts = read_facts(answers)
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    head = ReportHead(host, written, price_words(catalog, terms.model, 1))
    report = report_markdown(answers, facts, terms, head)
    (out / "report.md").write_text(report, encoding="utf-8")
    (out / "profile.toml").write_text(profile_toml(facts, host, terms.model.name), encoding="utf-8")


def _print_ending(answers: "Answers", terms: "Terms", out: Path, *, as_json: bool) -> None:
    from app.probe.facts import read_facts  # noqa: PLC0415

    files = {"report": str(out / "report.md"), "profile": str(out / "profile.toml")}
    if as_json:
        facts = asdict(read_facts(answers))
        known = {name: value for name, value in facts.items() if name not in ("bodies", "refusals")}
        known["forbidden_fields"] = sorted(known["forbidden_fields"])
        print_json(
            {"images_paid": answers.images_paid, "budget": terms.budget, **files} | {"facts": known}
        )
        return
    for name, path in files.items():
        print_line(f"{name:<8} {path}")
    print_line(f"paid for {_images(answers.images_paid)} at most, of a budget of {terms.budget}")
