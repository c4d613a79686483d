"""How a process was set up: every setting in force, where it came from, and who else is there."""

import re
from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from app import dotenv
from app.adapters.redis.ledger_condition import LedgerCondition
from app.adapters.redis.registry import GatewayRegistry
from app.domain.catalog import Catalog
from app.domain.catalog_providers import ProviderSection
from app.domain.errors import LedgerUnavailable
from app.domain.gateways import GatewayRecord
from app.service.operations import Deployment, SettingInForce
from app.settings import Settings, find_unknown_variables
from app.settings_validation import ENV_PREFIX
from app.wiring.registration import describe_image_store

MASK = "***"
URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
SECRET_URLS = frozenset({"redis_url", "cache_redis_url", "upstream_base_url", "s3_endpoint"})


class DeploymentView:
    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        gateways: GatewayRegistry,
        condition: LedgerCondition,
        version: str,
    ) -> None:
        self._settings, self._gateways, self._version = settings, gateways, version
        self._condition = condition
        self._providers = [_describe_section(section) for section in catalog.providers]
        self._given = _list_sources()

    async def __call__(self) -> Deployment:
        settings = self._settings
        own_server = settings.redis_url
        return Deployment(
            version=self._version,
            store_name="embedded" if own_server is None else _mask_url(own_server),
            image_store=describe_image_store(settings),
            settings=[
                *(self._describe(name) for name in sorted(type(settings).model_fields)),
                *self._providers,
            ],
            unknown=find_unknown_variables(),
            gateways=await self._list_gateways(),
            moved_to=self._condition.moved_to,
        )

    async def _list_gateways(self) -> Sequence[GatewayRecord] | None:
        """None while the store does not answer."""
        try:
            return await self._gateways.list_alive()
        except LedgerUnavailable:
            return None

    def _describe(self, name: str) -> SettingInForce:
        value = getattr(self._settings, name)
        secret = isinstance(value, SecretStr) or name == "upstream_api_key"
        source = next((word for word, names in self._given if name in names), None)
        if source is None:
            source = "command" if name in self._settings.model_fields_set else "default"
        return SettingInForce(f"{ENV_PREFIX}{name.upper()}", _text(name, value), source, secret)


def _describe_section(section: ProviderSection) -> SettingInForce:
    """A further provider, with where its key is and never the key."""
    given = {f.name: getattr(section, f.name) for f in fields(section) if f.name != "name"}
    given["base_url"] = _mask_url(section.base_url)
    text = ", ".join(f"{name} = {value}" for name, value in given.items() if value is not None)
    return SettingInForce(f"provider {section.name}", text, "catalog", secret=False)


def _list_sources() -> list[tuple[str, frozenset[str]]]:
    """Which settings the environment and the `.env` file give, the stronger one first."""
    given = [("environment", EnvSettingsSource(Settings).env_vars)]
    if dotenv.is_loaded():
        file = DotEnvSettingsSource(Settings, env_file=dotenv.DOTENV_PATH)
        given.append((".env", file.env_vars))
    return [
        (word, frozenset(n.lower().removeprefix(ENV_PREFIX.lower()) for n, v in names.items() if v))
        for word, names in given
    ]


def _text(name: str, value: object) -> str | None:
    match value:
        case None | "":
            return None
        case SecretStr():
            return MASK
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case Path():
            return str(value.absolute())
    text = str(value)
    return _mask_url(text) if name in SECRET_URLS else text


def _mask_url(url: str) -> str:
    """Without user and password, and without a query, which may hold either."""
    return URL_CREDENTIALS.sub(f"{MASK}@", url).partition("?")[0]
