"""Failures a command can expect, as one sentence each; anything else is a bug and stays loud."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.adapters.embedded.failures import EmbeddedStoreError
from app.cli.failure import CommandFailed
from app.domain.catalog import CatalogInvalid
from app.domain.errors import GatewayError
from app.domain.media import ImageStoreUnavailable
from app.service.keys import KeysError

EXPECTED = (KeysError, EmbeddedStoreError, GatewayError, CatalogInvalid, ImageStoreUnavailable)


@contextmanager
def known_failures() -> Iterator[None]:
    try:
        yield
    except EXPECTED as error:
        raise CommandFailed(str(error)) from error
