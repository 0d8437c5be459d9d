"""Rows that are pictures, as PNG files of a few bytes (ISO/IEC 15948)."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR = 0, 2
"""Colour types."""
SIDE = 32
"""Pixels of a thumbnail's longer side at most: a page holds hundreds of them."""


def thumbnails(rows: np.ndarray, image: tuple[int, ...]) -> list[bytes]:
    """A PNG of each row (m, D), a picture of shape ``image``: (height, width), or with 1 or 3 colours last.

    Bytes are shown as they are; of other types the least value of all is black and the largest white. Of larger
    pictures every second, third, ... pixel is shown.
    """
    step = -(-max(image[:2]) // SIDE)
    if rows.dtype != np.uint8:
        values = rows.astype(np.float64)
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        rows = np.rint((values - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
    return [png(row.reshape(image)[::step, ::step]) for row in rows]


def png(pixels: np.ndarray) -> bytes:
    """uint8 (height, width) or (height, width, 1 or 3) as a PNG file."""
    height, width, *colours = pixels.shape
    kind = COLOUR if colours == [3] else GREY
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
