"""What FOCUS wants to know of a deployment."""

from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.service.usage_export import FocusTerms
from app.settings import Settings


def build_focus_terms(settings: Settings, catalog: Catalog) -> FocusTerms:
    """The provider, by its host, sends the bill; for each model the one that it has today."""
    hosts = {one.name: _host(one.base_url) for one in catalog.providers}
    further = {m.name: hosts[m.provider] for m in catalog.models if m.provider in hosts}
    calendar = Calendar(ZoneInfo(settings.timezone))
    return FocusTerms(_host(settings.upstream_base_url), calendar, catalog.currency, further)


def _host(url: str) -> str:
    return urlsplit(url).hostname or "unknown"
