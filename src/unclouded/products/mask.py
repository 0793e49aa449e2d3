"""A mask on its own: classes with their colours, and beside it the detector's probability, as COGs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UsageError
from unclouded.products.cog import Plane, write_cog
from unclouded.products.journal import disk_errors
from unclouded.products.legend import COVER_COLOURS, COVER_NAMES
from unclouded.sample import Cover, Window
from unclouded.scenes.scene import Scene

BLOCK = 768
UNKNOWN = 255


def check_mask(path: Path, scene: Scene, *, overwrite: bool = False) -> None:
    """Whether `write_mask` may write there. Raises UsageError for what the scene is read from and for what is there already."""
    taken = [name for name in (path, beside(path)) if name.exists()]
    read = {Path(name).resolve() for name in scene.decisions.get("files", [])}
    if mine := [name for name in taken if name.resolve() in read]:
        raise UsageError("The mask would replace what it is made from.", where=mine[0], do="choose another --out.")
    if taken and not overwrite:
        raise UsageError("There is something of this name already.", where=taken[0], do="use --overwrite, or another --out.")


def beside(path: Path) -> Path:
    """Where the probability goes."""
    return path.with_name(f"{path.stem}_probability{path.suffix}")


def write_mask(path: Path, scene: Scene, i: int, probability: Callable[[Window], NDArray[np.float32] | None]) -> list[Path]:
    """Classes of date i of a scene that has masks -> `path`; probability in percent (255 unknown) -> `<stem>_probability.tif`.

    `probability` (h, w) in [0, 1] of a window, or None where the detector has none: then the second file is not written.
    Both appear whole or not at all. Raises OutputFailed.
    """
    covers = tuple((int(code), COVER_NAMES[code], COVER_COLOURS[code]) for code in Cover)
    classes = Plane(
        name="mask", shape=scene.shape, grid=scene.place.grid, dtype="uint8", nodata=0, descriptions=("mask",), classes=covers,
        overviews="nearest",
    )  # fmt: skip
    percent = Plane(
        name="probability", shape=scene.shape, grid=scene.place.grid, dtype="uint8", nodata=UNKNOWN, descriptions=("percent",)
    )
    written = [path]
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _publish(path, classes, _classes(scene, i))
        if probability(Window(0, 0, 1, 1)) is not None:
            written.append(beside(path))
            _publish(written[-1], percent, _percent(scene, i, probability))
    return written


def _publish(path: Path, plane: Plane, pieces: Iterator[tuple[Window, NDArray[np.uint8]]]) -> None:
    part = path.with_name(f".{path.name}.part.tif")
    try:
        write_cog(part, plane, pieces)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _classes(scene: Scene, i: int) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    assert scene.masks is not None
    for window in scene.blocks(BLOCK):
        yield window, np.asarray(scene.masks[i][window.slices])[None]


def _percent(
    scene: Scene, i: int, probability: Callable[[Window], NDArray[np.float32] | None]
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    assert scene.masks is not None
    for window in scene.blocks(BLOCK):
        found = probability(window)
        known = scene.masks[i][window.slices] != Cover.NODATA
        share = np.zeros(known.shape, np.float32) if found is None else found
        yield window, np.where(known, np.rint(100 * np.clip(share, 0, 1)), UNKNOWN).astype(np.uint8)[None]
