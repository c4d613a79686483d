"""Path spellings: many ways in, one way through, no way around."""

import pytest

from app.api.paths import normalize_path

GENERATIONS = "/v1/images/generations"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (GENERATIONS, (GENERATIONS, None)),
        ("/images/generations", (GENERATIONS, None)),
        ("/v1/v1/images/generations/", (GENERATIONS, None)),
        ("//v1///images//generations", (GENERATIONS, None)),
        ("/openai/images/generations", (GENERATIONS, None)),
        ("/openai/deployments/koi/images/generations", (GENERATIONS, "koi")),
        ("/v1/openai/deployments/koi/images/generations", (GENERATIONS, "koi")),
        ("/v1/models/xai/grok-imagine", ("/v1/models/xai/grok-imagine", None)),
        ("/livez", ("/livez", None)),
        ("/livez/", ("/livez", None)),
        ("/v1/livez", ("/v1/livez", None)),
        ("/v1/../metrics", ("/v1/../metrics", None)),
        ("/openai/deployments/koi", ("/openai/deployments/koi", None)),
        ("/v1", ("/v1", None)),
        ("/", ("/", None)),
        ("", ("/", None)),
    ],
)
def test_a_path_is_brought_to_its_one_spelling(path: str, expected: tuple[str, str | None]) -> None:
    assert normalize_path(path) == expected
