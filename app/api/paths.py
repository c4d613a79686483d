"""Turns a path as a client spells it into the one that is routed, without a redirect."""

from functools import lru_cache

ROUTE_ROOTS = frozenset({"images", "models", "tasks", "usage", "organization", "koi", "dashboard"})
"""First words after /v1."""
PREFIXES = frozenset({"v1", "openai", "api"})
PROXY = ["proxy", "openai"]
"""How ComfyUI's nodes reach OpenAI through another service."""
HEALTH_ALIASES = frozenset({"health", "healthz"})
"""Other names for /livez that hosting platforms ask for."""
NON_IMAGE_ROOTS = frozenset(
    {"chat", "responses", "completions", "embeddings", "audio", "assistants"}
)
"""First words of OpenAI's routes that are not about images."""


@lru_cache(maxsize=512)
def normalize_path(path: str) -> tuple[str, str | None]:
    """The path to route, and the model named by an Azure deployment path.

    Extra slashes, a missing or doubled /v1, `/api/v1`, `/proxy/openai` and
    `/openai/deployments/{model}` all lead to the same route. Dots are never resolved: a path with
    `..` in it is unknown.
    """
    given = [segment for segment in path.split("/") if segment]
    rest = given
    deployment = None
    while rest and (rest[0] in PREFIXES or rest[:2] == PROXY):
        if rest[:2] == ["openai", "deployments"] and len(rest) > 3:
            deployment, rest = rest[2], rest[3:]
        else:
            rest = rest[2:] if rest[:2] == PROXY else rest[1:]
    if rest and rest[0] in ROUTE_ROOTS:
        return "/v1/" + "/".join(rest), deployment
    if len(given) == 1 and given[0] in HEALTH_ALIASES:
        return "/livez", None
    return "/" + "/".join(given), None


def is_non_image_path(path: str) -> bool:
    """Whether a path without a route is one of OpenAI's for something else than images."""
    rest = [segment for segment in path.split("/") if segment and segment not in PREFIXES]
    return bool(rest) and rest[0] in NON_IMAGE_ROOTS
