"""Is a TIFF whole? Looked at before GDAL is, which opens a cut-off file and leaves out what is missing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_TAGS = 4_096
MAX_VALUE_BYTES = 2**28  # of one tag
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {f"{order}{kind}": f"{order}u{size}" for order in "<>" for kind, size in ((3, 2), (4, 4), (16, 8))}
_BLOCKS = {273: "offsets", 279: "lengths", 324: "offsets", 325: "lengths"}  # of strips, of tiles


def cut_off(stream: BinaryIO, size: int) -> str:
    """Why a TIFF is not whole, '' if it is: GDAL drops a tag beyond the end (the CRS, say) with no more than a log line.

    TIFF 6.0 section 2, and BigTIFF: the first directory, the values it points to, and the strips or tiles must lie inside.
    """
    blocks: dict[str, NDArray[np.int64]] = {}
    try:
        for tag, kind, raw, end in _tags(stream):
            if end > size:
                return f"tag {tag} lies beyond the end of the file ({size} bytes): it was cut off."
            if tag in _BLOCKS and kind in _INTEGERS:
                blocks[_BLOCKS[tag]] = np.frombuffer(raw, _INTEGERS[kind]).astype(np.int64)
    except (struct.error, ValueError, OverflowError, OSError):  # OSError: an address that no file can have
        return "its directory cannot be read."
    offsets, lengths = blocks.get("offsets"), blocks.get("lengths")
    if offsets is not None and lengths is not None and offsets.shape == lengths.shape and np.any(offsets + lengths > size):
        return f"its pixels end beyond the end of the file ({size} bytes): it was cut off."
    return ""


def _tags(stream: BinaryIO) -> Iterator[tuple[int, str, bytes, int]]:
    """The tags of a TIFF's first directory: number, type with byte order, bytes of the value (of `_BLOCKS`), where they end."""
    stream.seek(0)
    order = "<" if stream.read(2) == b"II" else ">"
    big = struct.unpack(order + "H", stream.read(2))[0] == 43
    word, counter, length = ("Q", "Q", 20) if big else ("I", "H", 12)
    wide = struct.calcsize(word)
    stream.seek(8 if big else 4)
    stream.seek(struct.unpack(order + word, stream.read(wide))[0])
    entries = min(struct.unpack(order + counter, stream.read(struct.calcsize(counter)))[0], MAX_TAGS)
    directory = stream.read(length * entries)
    for at in range(0, length * entries, length):
        tag, kind, count, where = struct.unpack_from(order + "HH" + 2 * word, directory, at)
        needed = count * _TYPE_BYTES.get(kind, 1)
        raw, end = directory[at + length - wide :][:needed], 0
        if needed > wide:
            end = where + needed
            stream.seek(where)
            raw = stream.read(min(needed, MAX_VALUE_BYTES)) if tag in _BLOCKS else b""
        yield tag, f"{order}{kind}", raw, end
