"""Signed links: genuine ones open, everything else does not."""

from urllib.parse import parse_qs

import pytest

from app.adapters.images.link_signer import LinkSigner

NAME = "img_" + "0a" * 16 + ".png"
OTHER = "img_" + "0b" * 16 + ".png"
NOW = 1_800_000_123
SECRET = b"a secret of ample length"


def signer(now: float = NOW, secret: bytes = SECRET) -> LinkSigner:
    return LinkSigner(secret, ttl_s=86_400, now=lambda: now)


def parts(query: str) -> tuple[str, str]:
    fields = parse_qs(query, strict_parsing=True)
    return fields["exp"][0], fields["sig"][0]


def test_a_link_opens_its_image_until_it_expires() -> None:
    exp, sig = parts(signer().sign(NAME))

    assert signer().verify(NAME, exp, sig)
    assert signer(int(exp) - 1).verify(NAME, exp, sig)
    assert not signer(int(exp)).verify(NAME, exp, sig)


def test_a_link_lives_at_least_its_time_and_at_most_an_hour_more() -> None:
    exp, _ = parts(signer().sign(NAME))

    assert 86_400 <= int(exp) - NOW < 86_400 + 3600
    assert int(exp) % 3600 == 0


def test_links_made_within_one_hour_are_equal() -> None:
    hour = NOW - NOW % 3600

    links = {signer(hour + second).sign(NAME) for second in (1, 0.5, 1800, 3599.9)}

    assert len(links) == 1


def test_an_expiry_can_be_chosen() -> None:
    exp, sig = parts(signer().sign(NAME, NOW + 7))

    assert exp == str(NOW + 7)
    assert signer().verify(NAME, exp, sig)


def test_a_link_holds_for_no_other_image_or_secret() -> None:
    exp, sig = parts(signer().sign(NAME))

    assert not signer().verify(OTHER, exp, sig)
    assert not signer(secret=b"another secret, long enough").verify(NAME, exp, sig)


@pytest.mark.parametrize(
    "change", ["0{}", "+{}", " {}", "{} ", "-{}", "{}0", "\uff11{}", "", "nan", "1e9"]
)
def test_an_expiry_that_was_not_signed_is_refused(change: str) -> None:
    exp, sig = parts(signer().sign(NAME))

    assert not signer().verify(NAME, change.format(exp), sig)


@pytest.mark.parametrize("change", ["{}=", "{} ", "", "é", "{}A", "\ud800", "\0"])
def test_a_signature_that_differs_is_refused(change: str) -> None:
    exp, sig = parts(signer().sign(NAME))

    assert not signer().verify(NAME, exp, change.format(sig))


def test_a_signature_carries_256_bits() -> None:
    _, sig = parts(signer().sign(NAME))

    assert len(sig) == 43


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        LinkSigner(b"short", ttl_s=60)
