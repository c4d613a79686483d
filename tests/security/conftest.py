"""Security tests: the flow tests' store, provider and gateway, and words for measuring them."""

from tests.flow.conftest import engine, koi, provider, sandbox, start, store_url

__all__ = ["engine", "koi", "provider", "sandbox", "start", "store_url"]
