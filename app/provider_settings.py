"""Where the keys of the catalog's further providers are, and whether these can be used.

No sentence quotes a key.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource

from app import dotenv
from app.address_settings import check_http_url
from app.domain.catalog import Catalog, CatalogError
from app.domain.catalog_providers import ProviderSection
from app.settings import Settings
from app.settings_validation import check_key, check_readable, check_upstream_scheme
from app.upstream_settings import check_base_url, check_key_characters, clean_base_url, clean_key


@dataclass(frozen=True, slots=True)
class FurtherProvider:
    """A further provider with its address, as the API's root, and its key."""

    section: ProviderSection
    base_url: str
    secret: SecretStr

    @property
    def name(self) -> str:
        return self.section.name

    @property
    def key(self) -> str:
        return self.secret.get_secret_value()


def open_further_providers(settings: Settings, catalog: Catalog) -> tuple[FurtherProvider, ...]:
    """All providers that the catalog lists. Raises `CatalogError` for the first that cannot be
    used."""
    found = []
    for section in catalog.providers:
        for _, sentence in section_mistakes(section, plain=settings.allow_plain_upstream):
            raise CatalogError(f"provider {section.name}: {sentence}")
        found.append(open_further_provider(section))
    return tuple(found)


def open_further_provider(section: ProviderSection) -> FurtherProvider:
    """One that `section_mistakes` says nothing of."""
    key = SecretStr(clean_key(_read_key(section) or ""))
    return FurtherProvider(section, clean_base_url(section.base_url), key)


def as_main_provider(settings: Settings, section: ProviderSection) -> Settings:
    """The settings as if this provider were the main one. Raises `CatalogError`."""
    for _, sentence in section_mistakes(section, plain=settings.allow_plain_upstream):
        raise CatalogError(f"provider {section.name}: {sentence}")
    provider = open_further_provider(section)
    return settings.model_copy(
        update={
            "upstream_base_url": provider.base_url,
            "upstream_api_key": provider.secret,
            "upstream_timeout_s": section.timeout_s or settings.upstream_timeout_s,
        }
    )


def section_mistakes(section: ProviderSection, *, plain: bool = False) -> Iterator[tuple[str, str]]:
    """What is wrong with its address and its key: the field, and a sentence. `plain`: http is
    allowed (KOI_ALLOW_PLAIN_UPSTREAM)."""
    url, place = clean_base_url(section.base_url), key_place(section)
    for sentence in (
        *check_http_url("base_url", url),
        *check_upstream_scheme(url, allowed=plain, name="base_url"),
        *check_base_url("base_url", url, key_name=place),
    ):
        yield "base_url", _without_end(sentence)
    for sentence in _key_mistakes(section):
        yield "api_key_env" if section.api_key_env else "api_key_file", _without_end(sentence)


def key_place(section: ProviderSection) -> str:
    """The variable or file of its key, for a sentence."""
    return section.api_key_env or str(section.api_key_file)


def _key_mistakes(section: ProviderSection) -> Iterator[str]:
    name = key_place(section)
    if section.api_key_file is not None:
        unreadable = [*check_readable(name, Path(section.api_key_file))]
        if unreadable:
            yield from unreadable
            return
    key = _read_key(section)
    if key is None:
        yield f"the variable {name} is not set; set it to this provider's key"
        return
    yield from check_key(name, SecretStr(key), at_least=1, clean=clean_key)
    yield from check_key_characters(name, clean_key(key))


def _read_key(section: ProviderSection) -> str | None:
    """As it is written: the file's text, or the variable of the environment or of a `.env` that is
    read."""
    if section.api_key_file is not None:
        return Path(section.api_key_file).read_text(encoding="utf-8")
    name = section.api_key_env or ""
    return os.environ.get(name) or _read_dotenv(name)


def _read_dotenv(name: str) -> str | None:
    if not dotenv.is_loaded():
        return None
    file = DotEnvSettingsSource(Settings, env_file=dotenv.DOTENV_PATH, case_sensitive=True)
    return file.env_vars.get(name) or None


def _without_end(sentence: str) -> str:
    """Sentences of a catalog have no full stop: what prints them adds its own."""
    return sentence.removesuffix(".")
