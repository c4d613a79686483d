"""Makes one preview: a picture comes on standard input, a WebP leaves on standard output.

This is run as a process of its own, without the gateway's environment and modules, because what it
decodes may be made to hurt. It limits itself before it reads a byte.
"""

import io
import resource
import sys
import warnings
from contextlib import suppress

MEMORY_BYTES = 1 << 30
CPU_S = 8
MAX_PIXELS = 20_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
QUALITY = 80


def limit() -> None:
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        # Not every system has each limit; the gateway kills a process that takes too long.
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


def make_preview(body: bytes, pixels: int) -> bytes:
    from PIL import Image, ImageOps  # noqa: PLC0415 - after the limits, and an extra

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with Image.open(io.BytesIO(body), formats=FORMATS) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError("too many pixels")
        opened.draft("RGB", (pixels, pixels))  # a JPEG is decoded no larger than needed
        upright = ImageOps.exif_transpose(opened)
        if upright.mode not in ("RGB", "RGBA"):
            has_alpha = "A" in upright.getbands() or "transparency" in upright.info
            upright = upright.convert("RGBA" if has_alpha else "RGB")
        upright.thumbnail((pixels, pixels), Image.Resampling.LANCZOS, reducing_gap=2.0)
    bare = Image.frombytes(upright.mode, upright.size, upright.tobytes())
    made = io.BytesIO()
    bare.save(made, "WEBP", quality=QUALITY, method=4)
    return made.getvalue()


def main() -> int:
    limit()
    try:
        made = make_preview(sys.stdin.buffer.read(), int(sys.argv[1]))
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises
        print(type(error).__name__, file=sys.stderr)  # noqa: T201
        return 1
    sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
