"""Faults of a finished result, in a sync reply and in a poll alike."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from app.sandbox.contract import Result
from app.sandbox.faults.row import Bills, Fault, ResultAct

_DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def _as_made(result: Result, _arg: str) -> Result:
    return result


def _empty(result: Result, _arg: str) -> Result:
    return replace(result, data=[])


def _null(result: Result, _arg: str) -> Result:
    return replace(result, data=None)


def _silently_moderated(_result: Result, _arg: str) -> Result:
    return Result([], {"block_reason": "content_policy_violation"})


def _withheld(result: Result, _arg: str) -> Result:
    kept = (result.data or [])[1:]
    return Result([{"url": None, "respect_moderation": False}, *kept], result.extra)


def _unusable(result: Result, _arg: str) -> Result:
    shapes: list[Any] = [{"url": ""}, {"url": None, "b64_json": None}, 42, "no item", {}]
    return replace(result, data=[shapes[i % 5] for i in range(len(result.data or []))])


def _links(rewrite: Callable[[str, str], str]) -> ResultAct:
    def act(result: Result, arg: str) -> Result:
        items = [
            {**item, "url": rewrite(item["url"], arg)} if item.get("url") else item
            for item in result.data or []
        ]
        return replace(result, data=items)

    return act


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _prefixed(result: Result, _arg: str) -> Result:
    items = []
    for item in result.data or []:
        text = item["b64_json"]
        prefix = "" if text.startswith("data:") else "data:image/jpeg;base64,"
        items.append({**item, "b64_json": prefix + text})
    return replace(result, data=items)


def _bad_b64(result: Result, _arg: str) -> Result:
    return replace(result, data=[{"b64_json": "@@@ not base64 @@@"} for _ in result.data or []])


def _linked(name: str, says: str, rewrite: Callable[[str, str], str]) -> Fault:
    return Fault(name, Bills.ALL, says, result=_links(rewrite))


ROWS: tuple[Fault, ...] = (
    Fault("fewer", Bills.ALL, "one image less than ordered", result=_as_made, extra_images=-1),
    Fault("more", Bills.ALL, "one image more than ordered", result=_as_made, extra_images=1),
    Fault("empty-200", Bills.ALL, "success with no items", result=_empty),
    Fault("data-null", Bills.ALL, "success with data null", result=_null),
    Fault("no-usable", Bills.ALL, "items with neither link nor bytes", result=_unusable),
    Fault("moderation-200", Bills.REFUSAL, "200, no items, a reason", result=_silently_moderated),
    Fault("moderation-item", Bills.WITHHELD, "the first item withheld", result=_withheld),
    Fault("b64-prefix", Bills.ALL, "bytes with a data-URI prefix", result=_prefixed, as_bytes=True),
    Fault("b64-garbage", Bills.ALL, "b64_json that is not base64", result=_bad_b64, as_bytes=True),
    _linked("url-http", "a plain http link to a stranger", lambda _u, _a: "http://cdn.test/a.jpg"),
    _linked(
        "url-private",
        "a link into the private network (argument: url)",
        lambda _u, arg: arg or "https://169.254.169.254/latest/meta-data/",
    ),
    _linked("url-data", "a data: link", lambda _u, _a: _DOT),
    _linked("url-script", "a javascript: link", lambda _u, _a: "javascript:alert(1)"),
    _linked("url-long", "a link of a megabyte", lambda url, _a: url + "&pad=" + "k" * 1_000_000),
    _linked("url-relative", "a link relative to the API", lambda url, _a: _path_of(url)),
    _linked(
        "url-scheme-relative", "a link without its scheme", lambda url, _a: url.partition(":")[2]
    ),
)
