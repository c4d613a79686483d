"""The same promises with pictures in an object store."""

from collections.abc import Iterator

import httpx
import pytest

from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI

pytest.importorskip("obstore")


@pytest.fixture
def bucket() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    httpx.put(f"{endpoint}/koi-pictures").raise_for_status()
    yield endpoint
    server.stop()


def test_a_picture_is_kept_in_a_bucket_and_served_from_our_origin(
    start: Start, bucket: str
) -> None:
    koi = start(
        image_store="s3://koi-pictures/team",
        s3_endpoint=bucket,
        s3_region="us-east-1",
        s3_access_key_id="access",
        s3_secret_access_key="a-secret-of-length",
    )
    with koi.client() as client:
        url = client.post(GENERATE, json=KOI).json()["data"][0]["url"]
        b64 = client.post(GENERATE, json={**KOI, "prompt": "2", "response_format": "b64_json"})
    picture = httpx.get(url)
    listing = httpx.get(f"{bucket}/koi-pictures").text

    assert url.startswith(koi.url)
    assert picture.headers["content-type"] == "image/jpeg"
    assert len(b64.json()["data"][0]["b64_json"]) > 1000
    assert listing.count("<Key>team/") == 2
