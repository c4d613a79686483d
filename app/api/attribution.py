"""For whom and for what a request is, from its headers and body; for reports only, never a right.

What cannot be kept is left out, since clients send these fields unasked. Only `x-koi-tag`, which is
ours, is refused: who sends it wants to find it again.
"""

from collections.abc import Sequence

from starlette.requests import Request

from app.api.open_webui import USER_HEADERS, decode_header, find_forwarded_user
from app.api.parameters import invalid_value_error
from app.api.state import get_access_record, get_edge_settings, get_scope_fields
from app.domain.attribution import MAX_NAME_CHARS, MAX_TAG_CHARS, Attribution, clean_value
from app.domain.principal import Principal

TAG, PROJECT = b"x-koi-tag", b"openai-project"
HEADERS = frozenset({TAG, PROJECT, *USER_HEADERS})
TAG_FORMAT = rf"^[!-+\-.-~]([ -+\-.-~]{{0,{MAX_TAG_CHARS - 2}}}[!-+\-.-~])?$"
"""In ASCII, for the schema; other printable characters may be sent as UTF-8."""
ATTRIBUTION_HEADERS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("X-Koi-Tag", "A word of yours for reports; the task shows it.", {"pattern": TAG_FORMAT}),
    ("OpenAI-Project", "What it is for, in your own words, for reports.", {}),
    *(
        (f"X-OpenWebUI-User-{name}", "For whom; believed of marked keys only.", {})
        for name in ("Id", "Email", "Jwt")
    ),
)
"""Name, what it is for, and what it may be, for the schema."""
BAD_TAG = (
    f"x-koi-tag must be sent once, with 1 to {MAX_TAG_CHARS} printable characters and no comma. "
    "Nothing was made or charged."
)


def read_attribution(
    request: Request, principal: Principal, end_user: str | None
) -> Attribution | None:
    """None for a request that says nothing; `end_user` is what its body says. Raises
    `InvalidRequest` for a tag that cannot be kept."""
    if end_user is None and HEADERS.isdisjoint(get_scope_fields(request.scope)):
        return None
    headers: list[tuple[bytes, bytes]] = request.scope["headers"]
    found = [header for header in headers if header[0] in HEADERS]
    settings = get_edge_settings(request)
    tag = _read_tag([value for name, value in found if name == TAG])
    get_access_record(request).tag = tag
    if not settings.end_users:
        end_user = None
    elif principal.forwards_users:
        # It knows who asks, and whoever asks may write the body.
        end_user = find_forwarded_user(dict_of_single(found), settings) or end_user
    attribution = Attribution(
        project=_clean(dict_of_single(found).get(PROJECT)),
        tag=tag,
        end_user=None if end_user is None else clean_value(end_user, MAX_NAME_CHARS),
    )
    return attribution if attribution.given else None


def dict_of_single(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Those that were sent once: which of several is meant, nobody knows."""
    names = [name for name, _ in headers]
    return {name: value for name, value in headers if names.count(name) == 1}


def _read_tag(values: Sequence[bytes]) -> str | None:
    values = [value for value in values if value.strip()]
    if not values:
        return None
    tag = decode_header(values[0])
    cleaned = clean_value(tag, MAX_TAG_CHARS) if tag is not None and len(values) == 1 else None
    if cleaned is None:
        raise invalid_value_error("x-koi-tag", BAD_TAG)
    return cleaned


def _clean(value: bytes | None) -> str | None:
    text = None if value is None else decode_header(value)
    return None if text is None else clean_value(text, MAX_NAME_CHARS)
