"""Which links ImageFetcher refuses before it asks or dials anybody."""

from collections.abc import Sequence

import pytest

from app.adapters.egress.guard import EgressGuard, EgressPolicy, is_public_address
from app.adapters.images.fetch import HttpImageFetcher
from app.domain.media import FetchRefused
from tests.drafts import bring


async def refused_with(url: str, addresses: Sequence[str]) -> list[str]:
    """Fetch in vain, every name having these addresses; the names that were looked up."""
    asked = []

    async def resolve(host: str, _: int) -> Sequence[str]:
        asked.append(host)
        return addresses

    fetcher = HttpImageFetcher(resolver=resolve)
    with pytest.raises(FetchRefused):
        await bring(fetcher, url)
    await fetcher.close()
    return asked


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/a.png",
        "http://example.com:25/a.png",
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:image/png;base64,iVBORw0KGgo=",
        "//example.com/a.png",
        "example.com/a.png",
        "",
        "https://",
        "https:///a.png",
        "https://user@example.com/a.png",
        "https://user:word@example.com/a.png",
        "https://@example.com/a.png",
        "https://example.com:22/a.png",
        "https://example.com:6667/a.png",
        "https://example.com:0/a.png",
        "https://example.com:99999/a.png",
        "https://example.com:x/a.png",
        "https://example.com/" + "a" * 8192,
        "https://example.com/a\r\nHost: evil",
        "https://example.com\\@evil.example/",
        "https://exa mple.com/a.png",
        "https://example..com/",
        "https://" + "a" * 64 + ".com/",
        "https://127.0.0.1/a.png",
        "https://127.1/a.png",
        "https://2130706433/a.png",
        "https://0x7f000001/a.png",
        "https://0x7f.0.0.1/a.png",
        "https://0177.0.0.1/a.png",
        "https://017700000001/a.png",
        "https://127.0.0.1./a.png",
        "https://127%2e0.0.1/a.png",
        "https://①②⑦.⓪.⓪.①/a.png",
        "https://0/a.png",
        "https://0.0.0.0/a.png",
        "https://10.0.0.1/a.png",
        "https://172.16.0.1/a.png",
        "https://192.168.0.1/a.png",
        "https://100.64.0.1/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://168.63.129.16/machine",
        "https://224.0.0.1/a.png",
        "https://255.255.255.255/a.png",
        "https://[::]/a.png",
        "https://[::1]/a.png",
        "https://[fe80::1]/a.png",
        "https://[fe80::1%25eth0]/a.png",
        "https://[2606:4700::1%25lo]/a.png",
        "https://[fd00:ec2::254]/a.png",
        "https://[::ffff:127.0.0.1]/a.png",
        "https://[::ffff:7f00:1]/a.png",
        "https://[::127.0.0.1]/a.png",
        "https://[64:ff9b::10.0.0.1]/a.png",
        "https://[64:ff9b:1::1]/a.png",
        "https://[2002:7f00:1::]/a.png",
        "https://[2001:0:1::]/a.png",
        "https://[ff02::1]/a.png",
        "https://[2001:db8::1]/a.png",
        "https://[::1/a.png",
        "\ud800https://example.com/",
    ],
)
async def test_what_is_not_public_https_is_refused_without_a_question(url: str) -> None:
    assert await refused_with(url, ["127.0.0.1"]) == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["::1"],
        ["fe80::1%eth0"],
        ["::ffff:192.168.1.1"],
        ["64:ff9b::7f00:1"],
        ["2002:a00:1::1"],
        ["93.184.216.34", "127.0.0.1"],
        ["2606:4700::1", "fd00::1"],
    ],
    ids=" and ".join,
)
async def test_a_name_that_leads_to_a_private_address_is_refused(addresses: list[str]) -> None:
    for site in (
        "https://cdn.example.com",
        "https://cdn.example.com:8443",
        "http://cdn.example.com",
    ):
        assert await refused_with(f"{site}/a.png", addresses) == ["cdn.example.com"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::8.8.8.8", True),
        ("192.0.0.8", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("203.0.113.9", False),
        ("240.0.0.1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("fec0::1", False),
    ],
)
def test_public_is_what_the_registries_call_public(address: str, public: bool) -> None:
    assert is_public_address(address) is public


def test_also_a_trusted_host_is_asked_on_no_port_of_another_protocol() -> None:
    guard = EgressGuard(["https://hooks.internal:8443"], EgressPolicy())

    assert guard.check_link("https://hooks.internal:9443/a")
    for port in (0, 25, 6667):
        with pytest.raises(FetchRefused, match="port"):
            guard.check_link(f"https://hooks.internal:{port}/a")
