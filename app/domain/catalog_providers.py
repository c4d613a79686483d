"""Further providers, as the catalog lists them beside the main one of the settings."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.domain.catalog_fields import CatalogFields, CatalogMistake

MAIN = "main"
"""What the provider of the settings is called where a name is needed."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
MODES = ("auto", "async", "sync")
KEY_HERE = (
    "api_key does not belong into a catalog, which is shown and copied; name the variable or file "
    "that holds the key with api_key_env or api_key_file, and replace a key that stood here"
)


@dataclass(frozen=True, slots=True)
class ProviderSection:
    """One `[[providers]]` table. Its key is in the variable `api_key_env` or in the file
    `api_key_file`, never here. The limits are what this provider grants, as for the main one; what
    is None is not limited, or as the settings say for the main one."""

    name: str
    base_url: str
    api_key_env: str | None = None
    api_key_file: str | None = None
    rpm: int | None = None
    burst: int | None = None
    concurrency: int | None = None
    timeout_s: int | None = None
    mode: str | None = None


def provider_of(name: str | None) -> str | None:
    """The provider that somebody names: None and `main` are the main one."""
    return None if name in (None, "", MAIN) else name


def read_providers(fields: CatalogFields) -> tuple[ProviderSection, ...]:
    """As they are written, whether or not they can be used."""
    return tuple(
        _section(fields.nested(table, f"provider {number}", "providers"))
        for number, table in enumerate(fields.tables("providers", ()), start=1)
    )


def _section(fields: CatalogFields) -> ProviderSection:
    name = fields.owner = fields.text("name")
    fields.refuse_if_present("api_key", f"provider {name}: {KEY_HERE}")
    return ProviderSection(
        name=name,
        base_url=fields.text("base_url"),
        api_key_env=fields.optional_text("api_key_env"),
        api_key_file=fields.optional_text("api_key_file"),
        rpm=fields.optional_number("rpm"),
        burst=fields.optional_number("burst"),
        concurrency=fields.optional_number("concurrency"),
        timeout_s=fields.optional_number("timeout_s"),
        mode=fields.optional_text("mode"),
    )


def provider_mistakes(section: ProviderSection) -> Iterator[tuple[str, str]]:
    """What is wrong in a section whose fields have the right types: the field, and a sentence."""
    if section.name == MAIN:
        yield "name", f"{MAIN} is the provider of KOI_UPSTREAM_BASE_URL; choose another name"
    elif NAME.fullmatch(section.name) is None:
        yield "name", "name must be a short word of small letters, digits and -, such as second"
    yield from _key_mistakes(section)
    for field in ("rpm", "burst", "concurrency", "timeout_s"):
        value = getattr(section, field)
        if value is not None and value < 1:
            yield field, f"{field} must be at least 1"
    if section.mode is not None and section.mode not in MODES:
        yield "mode", f"mode must be one of {', '.join(MODES)}"


def _key_mistakes(section: ProviderSection) -> Iterator[tuple[str, str]]:
    if (section.api_key_env is None) is (section.api_key_file is None):
        sentence = "say where its key is: either api_key_env or api_key_file"
        yield "api_key_file" if section.api_key_file else "api_key_env", sentence
    variable = section.api_key_env
    if variable is not None and ENVIRONMENT_NAME.fullmatch(variable) is None:
        yield "api_key_env", "api_key_env must be the name of an environment variable"
    elif variable is not None and variable.upper().startswith("KOI_"):
        yield "api_key_env", "api_key_env must not begin with KOI_, as Koi's own settings do"


def list_mistakes(
    sections: Sequence[ProviderSection], models: Mapping[str, str | None]
) -> Iterator[CatalogMistake]:
    """Two providers of one name, and models, by name, of a provider that is not listed."""
    listed: set[str] = set()
    for section in sections:
        if section.name in listed:
            sentence = f"The catalog lists the provider {section.name} more than once"
            yield CatalogMistake(f"provider {section.name}", "name", section.name, sentence)
        listed.add(section.name)
    for model, provider in models.items():
        if provider is not None and provider not in listed:
            sentence = (
                f"{model}: provider {provider!r} is none of [[providers]]; leave it out for the "
                "one of KOI_UPSTREAM_BASE_URL"
            )
            yield CatalogMistake(model, "provider", provider, sentence)
