"""Paths as clients spell them, brought to the one spelling that is routed; never by redirect."""

ROOTS = frozenset({"images", "models", "tasks", "usage", "organization"})
"""What follows /v1."""


def routed(path: str) -> tuple[str, str | None]:
    """The path to route, and the model named by an Azure deployment path.

    Extra slashes, a missing or doubled /v1 and `/openai/deployments/{model}` are spellings of
    the same thing (openai-compat study, statements 2-7). Dots are never resolved: a path that
    tries stays unknown.
    """
    given = [segment for segment in path.split("/") if segment]
    rest = given
    deployment = None
    while rest and rest[0] in ("v1", "openai"):
        if rest[:2] == ["openai", "deployments"] and len(rest) > 3:
            deployment, rest = rest[2], rest[3:]
        else:
            rest = rest[1:]
    if rest and rest[0] in ROOTS:
        return "/v1/" + "/".join(rest), deployment
    return "/" + "/".join(given), None
