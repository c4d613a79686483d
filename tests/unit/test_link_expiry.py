"""What a signed link says about its own end."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.images.link_expiry import expires_ms

HOST = "https://cdn.example/a.png?"


def at(*moment: int) -> int:
    return round(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("query", "ends"),
    [
        ("X-Amz-Date=20261129T010203Z&X-Amz-Expires=3600&X-Amz-Sig=a", (2026, 11, 29, 2, 2, 3)),
        ("x-oss-date=20261129T010203Z&x-oss-expires=60&x-oss-signature=a", (2026, 11, 29, 1, 3, 3)),
        ("X-Goog-Date=20261129T000000Z&X-Goog-Expires=604800", (2026, 12, 6)),
        ("X-Tos-Date=20261129T000000Z&X-Tos-Expires=86400", (2026, 11, 30)),
        ("AWSAccessKeyId=k&Signature=s%2B&Expires=1795910400", (2026, 11, 29)),
        ("OSSAccessKeyId=k&Expires=1795910400&Signature=s", (2026, 11, 29)),
        ("Expires=1795910400&Signature=s~&Key-Pair-Id=k", (2026, 11, 29)),
        ("se=2026-11-29T01%3A02%3A03Z&sp=r&sig=a", (2026, 11, 29, 1, 2, 3)),
        ("se=2026-11-29&sp=r&sig=a", (2026, 11, 30)),
        ("q-sign-time=1795900000%3B1795910400&q-ak=k", (2026, 11, 29)),
        ("e=1795910400&token=a", (2026, 11, 29)),
        ("Expires=1795910401&X-Amz-Date=20261128T230000Z&X-Amz-Expires=3600", (2026, 11, 29)),
    ],
)  # fmt: skip
def test_a_signed_link_says_when_it_ends(query: str, ends: tuple[int, ...]) -> None:
    assert expires_ms(HOST + query) == at(*ends)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "Expires=",
        "Expires=-1",
        "Expires=1",
        "Expires=soon",
        "Expires=9999999999",
        "Expires=" + "9" * 400,
        "Expires=1e9",
        "Expires=\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669\u0660",
        "X-Amz-Date=20261129T010203Z",
        "X-Amz-Date=20261399T010203Z&X-Amz-Expires=3600",
        "X-Amz-Date=20261129T010203Z&X-Amz-Expires=" + "9" * 10,
        "X-Amz-Expires=3600",
        "se=2026-11-29T01:02:03Z",
        "se=2026-99-29&sig=a",
        "se=9999-12-31&sig=a",
        "se=0001-01-01&sig=a",
        "q-sign-time=1795910400",
        "e=1795910400",
        "&".join(f"a{n}=1" for n in range(500)) + "&Expires=1795910400",
        "a=" + "b" * 9000 + "&Expires=1795910400",
    ],
)
def test_a_link_that_says_nothing_believable_says_nothing(query: str) -> None:
    assert expires_ms(HOST + query) is None


@given(st.text(max_size=300))
def test_no_text_makes_it_fail(text: str) -> None:
    for link in (text, HOST + text, f"{HOST}se={text}&sig=1&Expires={text}"):
        assert expires_ms(link) is None or expires_ms(link)
