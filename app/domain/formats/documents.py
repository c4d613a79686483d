"""Text: SVG images, and pages or error messages that a host sends in place of an image."""

import codecs
import re

from app.domain.formats.source import ByteSource, FormatInfo

HEAD_BYTES = 1024
TAIL_BYTES = 4096
SVG_TAG = re.compile(rb"<svg[\s/>]", re.IGNORECASE)
HTML_TAG = re.compile(rb"<(!doctype html|html|head|body|script|title)\b", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
SVG_END = re.compile(rb"</svg\s*>", re.IGNORECASE)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_svg(source: ByteSource) -> FormatInfo | None:
    """Complete when its last element is closed."""
    head = _head(source)
    found = SVG_TAG.search(head)
    if found is None or not head.startswith(b"<") or HTML_TAG.search(head, 0, found.start()):
        return None
    tail = source.read(max(source.size - TAIL_BYTES, 0), TAIL_BYTES)
    return FormatInfo(None, None, SVG_END.search(tail) is not None or tail.rstrip().endswith(b"/>"))


def is_html(source: ByteSource) -> bool:
    """Whether a browser would take it for an HTML page."""
    head = _head(source)
    return head.startswith(b"<") and HTML_TAG.search(head) is not None


def is_text(source: ByteSource) -> bool:
    """Whether it begins with text, as no other image format does."""
    try:
        # The last character may be cut in the middle.
        text = codecs.getincrementaldecoder("utf-8")().decode(_head(source))
    except UnicodeDecodeError:
        return False
    return CONTROL.search(text) is None


def _head(source: ByteSource) -> bytes:
    head = source.read(0, HEAD_BYTES)
    if head.startswith(UTF_16):
        head = head[: len(head) & ~1].decode("utf-16", errors="replace").encode()
    return head.removeprefix(codecs.BOM_UTF8).lstrip()
