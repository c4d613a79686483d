"""Draws the images: a koi pond of an exact size in pixels, from a seed."""

import io
import math
import random
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont, ImageOps

Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, int, int]
Spine: TypeAlias = Callable[[float, float], Point]

_WATERS: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((6, 42, 66), (18, 104, 128), (122, 196, 196)),
    ((10, 28, 72), (32, 78, 148), (142, 186, 226)),
    ((8, 52, 48), (24, 116, 98), (158, 210, 176)),
    ((38, 20, 70), (96, 60, 140), (214, 168, 206)),
    ((52, 26, 40), (150, 74, 76), (244, 190, 150)),
)
_COATS: tuple[tuple[Colour, Colour], ...] = (
    ((250, 246, 238), (232, 84, 36)),
    ((246, 150, 52), (252, 236, 212)),
    ((244, 240, 236), (34, 36, 44)),
    ((252, 206, 92), (226, 112, 28)),
    ((222, 66, 40), (250, 240, 230)),
)
_CANVAS_AREA = 280_000  # drawn small and enlarged: soft like paint, and four times faster


def draw(seed: str, width: int, height: int) -> Image.Image:
    """A pond of exactly width x height pixels; the same seed gives the same pond."""
    dice = random.Random(seed)  # noqa: S311
    scale = min(1.0, math.sqrt(_CANVAS_AREA / (width * height)))
    canvas = _water(dice, max(16, int(width * scale)), max(16, int(height * scale)))
    _ripples(dice, canvas)
    _lilies(dice, canvas)
    for _ in range(dice.randint(2, 4)):
        _swim(dice, canvas)
    picture = canvas.resize((width, height), Image.Resampling.BILINEAR)
    _sign(picture)
    return picture


def draw_plain(width: int, height: int) -> Image.Image:
    """A plain gradient of the exact size: cheap, for load tests."""
    light = Image.linear_gradient("L").resize((width, height), Image.Resampling.NEAREST)
    picture = ImageOps.colorize(light, black=(18, 104, 128), white=(122, 196, 196))
    _sign(picture)
    return picture


def encode(picture: Image.Image, image_format: str) -> bytes:
    """The image as a JPEG or PNG file."""
    buffer = io.BytesIO()
    if image_format == "png":
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=84)
    return buffer.getvalue()


@lru_cache(maxsize=16)
def encode_plain(width: int, height: int, image_format: str) -> bytes:
    """The file of a plain gradient, drawn once for all providers of a process."""
    return encode(draw_plain(width, height), image_format)


def stamp(encoded: bytes, text: str) -> bytes:
    """The file with a comment added, so that no two results have the same bytes."""
    note = text.encode("ascii", "replace")
    if encoded[:2] == b"\xff\xd8":
        # After the JFIF header, which must come first.
        at = 4 + int.from_bytes(encoded[4:6], "big")
        segment = b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note
        return encoded[:at] + segment + encoded[at:]
    body = b"tEXtComment\x00" + note
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return encoded[:-12] + chunk + encoded[-12:]


def _water(dice: random.Random, width: int, height: int) -> Image.Image:
    deep, middle, light = dice.choice(_WATERS)
    turn = Image.linear_gradient("L").rotate(dice.uniform(-40, 40), Image.Resampling.BILINEAR)
    crop = turn.crop((52, 52, 204, 204)).resize((width, height), Image.Resampling.BILINEAR)
    return ImageOps.colorize(crop, black=deep, white=light, mid=middle)


def _ripples(dice: random.Random, canvas: Image.Image) -> None:
    width, height = canvas.size
    rings = Image.new("L", canvas.size, 0)
    pen = ImageDraw.Draw(rings)
    for _ in range(dice.randint(3, 6)):
        x, y = dice.uniform(0, width), dice.uniform(0, height)
        for ring in range(1, dice.randint(4, 7)):
            rx = ring * min(width, height) * 0.045
            box = (x - rx, y - rx * 0.62, x + rx, y + rx * 0.62)
            pen.ellipse(box, outline=max(12, 80 - 11 * ring), width=2)
    canvas.paste((255, 255, 255), (0, 0), rings)


def _lilies(dice: random.Random, canvas: Image.Image) -> None:
    width, height = canvas.size
    pen = ImageDraw.Draw(canvas, "RGBA")
    for _ in range(dice.randint(2, 5)):
        r = min(width, height) * dice.uniform(0.04, 0.09)
        x, y = dice.uniform(0, width), dice.choice([dice.uniform(0, 0.2), dice.uniform(0.8, 1)])
        y *= height
        cut = dice.randint(0, 359)
        shade = dice.randint(-18, 18)
        pen.ellipse((x - r + 4, y - r + 6, x + r + 4, y + r + 6), fill=(0, 20, 30, 60))
        leaf = (58 + shade, 132 + shade, 74, 255)
        pen.pieslice((x - r, y - r, x + r, y + r), cut, cut + 325, fill=leaf)
        if dice.random() < 0.4:
            b = r * 0.34
            pen.ellipse((x - b, y - b, x + b, y + b), fill=(250, 190, 206, 255))
            pen.ellipse((x - b / 2, y - b / 2, x + b / 2, y + b / 2), fill=(255, 232, 150, 255))


def _swim(dice: random.Random, canvas: Image.Image) -> None:
    width, height = canvas.size
    length = int(min(width, height) * dice.uniform(0.34, 0.52))
    koi = _koi(dice, length).rotate(dice.uniform(0, 360), Image.Resampling.BILINEAR, expand=True)
    x = int(dice.uniform(0.15, 0.85) * width) - koi.width // 2
    y = int(dice.uniform(0.2, 0.8) * height) - koi.height // 2
    shape = koi.getchannel("A")
    canvas.paste((0, 18, 30), (x + 5, y + 9), shape.point([level // 4 for level in range(256)]))
    canvas.paste(koi, (x, y), koi)


def _koi(dice: random.Random, length: int) -> Image.Image:
    """One fish seen from above, swimming right along a bent spine."""
    coat, spots = dice.choice(_COATS)
    bend = dice.uniform(-0.16, 0.16)
    big = length * 2
    tile = Image.new("RGBA", (big, big), (*coat, 0))
    pen = ImageDraw.Draw(tile)
    fin = (*coat, 150)

    def spine(t: float, off: float = 0.0) -> Point:
        return big * (0.06 + 0.88 * t), big * (0.5 + bend * math.sin(t * math.pi * 1.6) + off)

    for side in (-1.0, 1.0):
        pen.polygon([spine(0.24), spine(-0.02, side * 0.13), spine(0.1, side * 0.02)], fill=fin)
        pen.polygon([spine(0.72), spine(0.52, side * 0.2), spine(0.6, side * 0.03)], fill=fin)
    steps = [1 - (1 - i / 26) ** 1.8 for i in range(27)]  # finer towards the round head
    girth = [0.02 * (1 - t) + 0.1 * math.sin(math.pi * t**1.25) ** 0.7 for t in steps]
    tops = [spine(0.12 + 0.82 * t, g) for t, g in zip(steps, girth, strict=True)]
    lows = [spine(0.12 + 0.82 * t, -g) for t, g in zip(steps, girth, strict=True)]
    body = Image.new("L", tile.size, 0)
    ImageDraw.Draw(body).polygon([*tops, *reversed(lows)], fill=255)
    tile.paste((*coat, 255), (0, 0), body)
    tile.paste(Image.new("RGBA", tile.size, (*spots, 255)), (0, 0), _spots(dice, spine, body))
    for side in (-1.0, 1.0):
        x, y = spine(0.86, side * 0.032)
        r = big * 0.011
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(20, 20, 26, 255))
    return tile.resize((length, length), Image.Resampling.BOX)


def _spots(dice: random.Random, spine: Spine, body: Image.Image) -> Image.Image:
    marks = Image.new("L", body.size, 0)
    pen = ImageDraw.Draw(marks)
    for _ in range(dice.randint(3, 6)):
        x, y = spine(dice.uniform(0.2, 0.9), dice.uniform(-0.06, 0.06))
        rx, ry = body.width * dice.uniform(0.04, 0.1), body.width * dice.uniform(0.03, 0.07)
        pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)
    within = Image.new("L", body.size, 0)
    within.paste(marks, (0, 0), body)
    return within


def _sign(picture: Image.Image) -> None:
    """Writes \"sandbox\" into the image, so that nobody takes it for the work of a model."""
    size = max(10, min(picture.size) // 40)
    mark = _word(size)
    x, y = picture.width - mark.width - size, picture.height - mark.height - size
    if x > 0 and y > 0:
        picture.paste((255, 255, 255), (x, y), mark)


@lru_cache(maxsize=16)
def _word(size: int) -> Image.Image:
    font = ImageFont.load_default(size)
    box = font.getbbox("sandbox")
    mark = Image.new("L", (math.ceil(box[2]) + 2, math.ceil(box[3]) + 2), 0)
    ImageDraw.Draw(mark).text((1, 1), "sandbox", fill=190, font=font)
    return mark
