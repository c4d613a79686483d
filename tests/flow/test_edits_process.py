"""What uploads cost a gateway in memory, and what is left of them when it dies."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.sandbox.server import Sandbox
from tests.flow.studio import CATALOG, EDITS, SEEDREAM, digest, open_references, picture, uri
from tests.flow.test_crash import Process, operator
from tests.ports import free_port

MEGABYTE = 1 << 20


class CatalogProcess(Process):
    def __init__(self, sandbox: Sandbox, data_dir: Path, port: int) -> None:
        super().__init__(sandbox, data_dir, port, "auto")
        self._environment |= {"KOI_CATALOG": str(CATALOG), "KOI_UPSTREAM_TIMEOUT_S": "60"}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def peak_bytes(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(peak) * 1024


@pytest.fixture
def served(sandbox: Sandbox, tmp_path: Path) -> Iterator[CatalogProcess]:
    process = CatalogProcess(sandbox, tmp_path / "koi", free_port())
    process.start()
    yield process
    process.stop()


def edit(client: httpx.Client, *bodies: bytes) -> httpx.Response:
    files = [("image[]", (f"{at}.png", body)) for at, body in enumerate(bodies)]
    data = {"model": SEEDREAM, "prompt": digest(b"".join(bodies)), "n": "2"}
    return client.post(EDITS, data=data, files=files, timeout=120)


def test_large_uploads_are_never_in_memory_and_a_killed_gateway_leaves_none(
    served: CatalogProcess, sandbox: Sandbox, tmp_path: Path
) -> None:
    koi = operator(served, sandbox, tmp_path)
    key = koi.key()
    pictures = [picture(colour, noise=8 * MEGABYTE) for colour in ("red", "blue")]
    with koi.client(key) as client, ThreadPoolExecutor(1) as pool:
        assert edit(client, picture()).status_code == 200
        before = served.peak_bytes()
        form = pool.submit(edit, client, *pictures)
        long = {"model": SEEDREAM, "prompt": "json", "image": [uri(body) for body in pictures]}
        as_json = client.post(EDITS, json=long, timeout=120)
        answers = [as_json, form.result()]
        grown = served.peak_bytes() - before

    assert [answer.status_code for answer in answers] == [200] * 2, [a.text for a in answers]
    assert set(sandbox.references[2:]) == {tuple(map(digest, pictures))}
    # 16 MB came twice, as bytes and as base64, and went out as 21 MB in three calls.
    assert grown < 10 * MEGABYTE, grown
    koi.assert_ledger_matches_bill()

    posts, spool = sandbox.posts, tmp_path / "koi" / "references"
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as upload:
        head = f"POST {EDITS} HTTP/1.1\r\nHost: koi\r\nAuthorization: Bearer {key}\r\n"
        kind = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 30000000\r\n\r\n"
        part = '--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        upload.sendall((head + kind + part).encode() + pictures[0])
        deadline = time.monotonic() + 20
        while not open_references(str(served.pid)):
            assert time.monotonic() < deadline, "the upload is not on the disk"
            time.sleep(0.02)
        served.kill()

    assert list(spool.iterdir()) == []
    served.start()
    assert (sandbox.posts, koi.audit().open_jobs) == (posts, 0)
