"""The embedded store: a Valkey server of our own, for those who have none."""

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
