"""The embedded store: a Valkey server that Koi starts itself when no store is configured."""

from app.adapters.embedded.errors import (
    EmbeddedStoreError,
    EngineMismatch,
    StoreNotFound,
    StoreNotStarted,
    StoreUnusable,
)
from app.adapters.embedded.store import EmbeddedStore

__all__ = [
    "EmbeddedStore",
    "EmbeddedStoreError",
    "EngineMismatch",
    "StoreNotFound",
    "StoreNotStarted",
    "StoreUnusable",
]
