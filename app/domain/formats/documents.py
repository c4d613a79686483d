"""Text where a picture should be: SVG, web pages, and what hosts say when they say no."""

import codecs
import re

from app.domain.formats.source import Found, Source

HEAD = 1024
TAIL = 4096
SVG = re.compile(rb"<svg[\s/>]", re.IGNORECASE)
PAGE = re.compile(rb"<(!doctype html|html|head|body|script|title)\b", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
SVG_END = re.compile(rb"</svg\s*>", re.IGNORECASE)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def svg(source: Source) -> Found | None:
    """Whole when its last element is closed."""
    head = _head(source)
    found = SVG.search(head)
    if found is None or not head.startswith(b"<") or PAGE.search(head, 0, found.start()):
        return None
    tail = source.read(max(source.size - TAIL, 0), TAIL)
    return Found(None, None, SVG_END.search(tail) is not None or tail.rstrip().endswith(b"/>"))


def is_page(source: Source) -> bool:
    """Something a browser would take for a page of HTML."""
    head = _head(source)
    return head.startswith(b"<") and PAGE.search(head) is not None


def is_text(source: Source) -> bool:
    """Text at least at its beginning; no format of pictures begins like that."""
    try:
        # The last character may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(_head(source))
    except UnicodeDecodeError:
        return False
    return CONTROL.search(text) is None


def _head(source: Source) -> bytes:
    head = source.read(0, HEAD)
    if head.startswith(UTF_16):
        head = head[: len(head) & ~1].decode("utf-16", errors="replace").encode()
    return head.removeprefix(codecs.BOM_UTF8).lstrip()
