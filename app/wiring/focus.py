"""What FOCUS wants to know of a deployment."""

from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.service.usage_export import FocusTerms
from app.settings import Settings


def build_focus_terms(settings: Settings, catalog: Catalog) -> FocusTerms:
    """The provider, by its host, sends the bill."""
    issuer = urlsplit(settings.upstream_base_url).hostname or "unknown"
    return FocusTerms(issuer, Calendar(ZoneInfo(settings.timezone)), catalog.currency)
