"""Security tests share the flow tests' store, provider and gateway."""

from tests.flow.conftest import engine, koi, provider, sandbox, start, store_url

__all__ = ["engine", "koi", "provider", "sandbox", "start", "store_url"]
