"""One gateway with models that take reference images, shared by a module's tests."""

import base64
import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.harness import Koi, gateway
from tests.pictures import with_chunk

CATALOG = Path(__file__).parent.parent / "references.toml"
EDITS, GENERATE = "/v1/images/edits", "/v1/images/generations"
SEEDREAM, FREE_INPUTS, TEXT_ONLY = "doubao-seedream-4.5", "doubao-seedream-4.0", "grok-imagine"


def picture(colour: str = "red", form: str = "PNG", side: int = 64, noise: int = 0) -> bytes:
    """A whole picture; a PNG may carry so many bytes that mean nothing."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, form)
    return with_chunk(file.getvalue(), noise) if noise else file.getvalue()


def uri(body: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(body).decode()}"


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass
class Studio:
    koi: Koi
    data: Path
    users: int = 0
    open: ExitStack = field(default_factory=ExitStack)

    @property
    def sandbox(self) -> Sandbox:
        return self.koi.sandbox

    @property
    def sent(self) -> list[tuple[str, ...]]:
        """The reference images of each call that the provider accepted."""
        return self.sandbox.references

    def key(self, **options: Any) -> str:
        """Of a user of its own, so that no test gets the pictures of another."""
        self.users += 1
        return self.koi.key(f"user-{self.users}", **options)

    def sdk(self, **key: Any) -> openai.OpenAI:
        secret = self.key(**key)
        sdk = openai.OpenAI(base_url=self.koi.v1, api_key=secret, max_retries=0, timeout=30)
        self.open.callback(sdk.close)
        return sdk

    def client(self, **key: Any) -> httpx.Client:
        return self.koi.client(self.key(**key))

    def assert_nothing_is_left(self) -> None:
        """On the disk, and of the files without a name that this process (the gateway) holds."""
        deadline = time.monotonic() + 10
        while held := [*(self.data / "references").glob("*"), *open_references()]:
            assert time.monotonic() < deadline, held
            time.sleep(0.02)


def open_references(process: str = "self") -> list[str]:
    held = []
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            held.append(os.readlink(descriptor))
        except OSError:
            continue
    return [path for path in held if "/references/" in path]


@pytest.fixture(scope="module")
def house(provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    provider.reset()
    data = tmp_path_factory.mktemp("edits")
    with (
        EmbeddedStore(tmp_path_factory.mktemp("edits-store")) as store,
        gateway(provider, store.url, data, catalog=CATALOG) as koi,
    ):
        yield Studio(koi, data)
        koi.assert_ledger_matches_bill()


@pytest.fixture
def studio(house: Studio) -> Iterator[Studio]:
    yield house
    house.open.close()
    house.assert_nothing_is_left()
