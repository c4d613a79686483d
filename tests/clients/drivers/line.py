"""The line protocol of every Python driver: one call a line on stdin, one answer a line on stdout.

A call: {"id", "base_url", "key", "prompt", "n"?, "timeout_s"?, "hang_up_after_s"?, "headers"?}.
An answer: {"id", "ok", "urls", "b64" (sizes and digests), "error", "status", "seconds"}.
Runs under the client's own interpreter, so it knows nothing but the standard library.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import sys
import time


def told(items):
    """A client's pictures as an answer tells them."""
    urls, b64 = [], []
    for item in items:
        url = getattr(item, "url", None) if not isinstance(item, dict) else item.get("url")
        text = (
            getattr(item, "b64_json", None) if not isinstance(item, dict) else item.get("b64_json")
        )
        if text:
            b64.append(digest(base64.b64decode(text)))
        elif url:
            urls.append(url)
    return {"urls": urls, "b64": b64}


def digest(picture):
    return {"bytes": len(picture), "sha256": hashlib.sha256(picture).hexdigest()}


def serve(make, warm=None, hangs_up=True, has_timeout=True):
    """`make(call)` is a coroutine function that makes one call with the client's own retries;
    `warm(call)` opens a second connection, so that a repeat does not need a new one."""
    asyncio.run(_serve(make, warm, hangs_up, has_timeout))


async def _serve(make, warm, hangs_up, has_timeout):
    loop = asyncio.get_running_loop()
    at_work = set()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        call = json.loads(line)
        lacks = ("hang_up_after_s" in call and not hangs_up) or (
            "timeout_s" in call and not has_timeout
        )
        if lacks:
            _say({"id": call["id"], "lacks": True})
            continue
        task = asyncio.create_task(_answer(make, warm, call))
        at_work.add(task)
        task.add_done_callback(at_work.discard)
    await asyncio.gather(*at_work)


async def _answer(make, warm, call):
    began = time.monotonic()
    try:
        if "hang_up_after_s" in call:
            await _hang_up(make, warm, call)
        said = {"ok": True, **await make(call)}
    except Exception as error:  # noqa: BLE001 - whatever a client throws is what its user sees
        said = {"ok": False, "error": named(error), "status": getattr(error, "status_code", None)}
    _say({"id": call["id"], "seconds": round(time.monotonic() - began, 2), **said})


async def _hang_up(make, warm, call):
    if warm is not None:
        await warm(call)
    first = asyncio.create_task(make(call))
    await asyncio.sleep(call["hang_up_after_s"])
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first


def named(error):
    code = getattr(error, "code", None)
    body = getattr(error, "body", None)
    if code is None and isinstance(body, dict):
        code = body.get("code")
    words = type(error).__name__
    return f"{words} {code}" if isinstance(code, str) else f"{words}: {str(error)[:120]}"


def _say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
