"""Reference images in the body of a generation. They are encoded while they are sent: a call needs
the memory of one slice, whatever their size."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence

import orjson

from app.adapters.http.messages import StreamedBody
from app.domain.formats import ByteSource
from app.domain.references import Reference

SLICE_BYTES = 192 << 10
"""Read and encoded at once: a multiple of three, so that encoded slices join to valid base64."""
Section = bytes | ByteSource
"""Part of a body: bytes as they are sent, or bytes that are sent as base64."""


def add_references(
    body: bytes, field: str, references: Sequence[Reference]
) -> bytes | StreamedBody:
    """A body (a JSON object) with reference images in one more field."""
    sections: list[Section] = [body[:-1], b"," + orjson.dumps(field) + b":"]
    sections += _encode_references(references)
    sections.append(b"}")
    if all(isinstance(section, bytes) for section in sections):
        return b"".join(section for section in sections if isinstance(section, bytes))
    return SectionedBody(sections)


def _encode_references(references: Sequence[Reference]) -> list[Section]:
    """One picture is a text, several are a list of texts: providers take both."""
    sections: list[Section] = []
    for reference in references:
        if sections:
            sections.append(b",")
        if reference.content is None:
            sections.append(orjson.dumps(reference.url))
        else:
            prefix = f'"data:{reference.media_type};base64,'.encode()
            sections += [prefix, reference.content, b'"']
    return sections if len(references) == 1 else [b"[", *sections, b"]"]


class SectionedBody:
    """A body that is put together while it is sent."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._sections = sections
        self._size = sum(
            len(section) if isinstance(section, bytes) else (section.size + 2) // 3 * 4
            for section in sections
        )

    def __len__(self) -> int:
        return self._size

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Raises `OSError` when the pictures can no longer be read."""
        pending = b""
        for section in self._sections:
            if isinstance(section, bytes):
                pending += section
                continue
            for at in range(0, section.size, SLICE_BYTES):
                # In a thread, because the disk may be slow.
                pending += await asyncio.to_thread(_encode_slice, section, at)
                yield pending
                pending = b""
        yield pending


def _encode_slice(source: ByteSource, at: int) -> bytes:
    wanted = min(SLICE_BYTES, source.size - at)
    taken = source.read(at, wanted)
    if len(taken) < wanted:
        raise OSError("a reference image is shorter than it was")
    return b64encode(taken)
