"""Every profile by name."""

from collections.abc import Mapping
from types import MappingProxyType

from app.sandbox.backends import BACKENDS
from app.sandbox.contract import DOC, DOC_BARE, Profile
from app.sandbox.relatives import RELATIVES

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {row.name: row for row in (DOC, DOC_BARE, *RELATIVES, *BACKENDS)}
)
