"""Masks that come with the data: Sen2Cor's scene classification (SCL) and a mask file of the user.

SCL codes: Sentinel-2 Level-2A Product Definition Document, scene classification map. A mask file may hold our own class
codes or any 0/1 mask; which of the two it is follows from all its values (`kind_of`), never from those of one window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputMissing, InputUnsupported
from unclouded.masks.detection import Detection, Look, looking, with_nodata
from unclouded.sample import Cover, Sample, Window
from unclouded.workers import in_threads

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

SURVEY_BLOCK = 1024

# Sen2Cor code -> class, nominal cloud probability. 0 where a pixel was measured: nobody looked, so it is not known to be clear.
SCL: tuple[tuple[str, Cover, float], ...] = (
    ("no data", Cover.OTHER, 0.5),
    ("saturated or defective", Cover.OTHER, 0.0),
    ("dark area", Cover.CLEAR, 0.0),  # terrain shade, burnt ground, dark water: ground that is seen
    ("cloud shadow", Cover.SHADOW, 0.0),
    ("vegetation", Cover.CLEAR, 0.0),
    ("not vegetated", Cover.CLEAR, 0.0),
    ("water", Cover.CLEAR, 0.0),
    ("unclassified", Cover.CLEAR, 0.2),
    ("cloud, medium probability", Cover.THICK, 0.5),
    ("cloud, high probability", Cover.THICK, 0.9),
    ("thin cirrus", Cover.THIN, 0.5),
    ("snow or ice", Cover.SNOW, 0.0),
)
_SCL_CLASS = np.array([cover for _, cover, _ in SCL], np.uint8)
_SCL_PROBABILITY = np.array([p for _, _, p in SCL], np.float32)

Kind = Literal["classes", "binary"]


def scl(sample: Sample) -> Detection:
    """Sen2Cor's classes in ours. Raises InputMissing without an SCL layer, InputUnsupported for a code above 11."""
    if sample.scl is None:
        raise InputMissing(
            "There is no scene classification (SCL) for this series.",
            where=sample.place.id,
            do="use --mask auto, or put scl.tif beside each s2.tif; L1C products never have one.",
        )
    return Detection(
        classes=scl_classes(sample.scl, sample.s2_valid, sample.place.id),
        probability=np.where(sample.s2_valid, _SCL_PROBABILITY[sample.scl], np.float32(0)),
    )


def scl_classes(codes: NDArray[np.uint8], valid: NDArray[np.bool_], where: str) -> NDArray[np.uint8]:
    """Sen2Cor's codes in our classes, any shape; NODATA where nothing is valid. Raises InputUnsupported for a code above 11."""
    if codes.size and int(codes.max()) >= len(SCL):
        raise InputUnsupported(
            f"The scene classification holds the code {int(codes.max())}.",
            where=where,
            why=f"Sen2Cor's codes end at {len(SCL) - 1}.",
            do="check that the file is an SCL layer; give other masks with --mask FILE.",
        )
    return with_nodata(_SCL_CLASS[codes], valid)


def kind_of(values: NDArray[np.floating]) -> Kind:
    """How a mask file is coded, from its distinct values: 0 and one other (1, 100, 255) is "binary", 0..6 are our classes.

    A file of ours that holds only 0 and 1 (no data, clear) would read as binary: the reader says so by its tag instead.
    Raises InputUnsupported for values that are neither.
    """
    found = np.unique(values[np.isfinite(values)])
    if set(found.tolist()) <= {0.0, 1.0} or set(found.tolist()) <= {0.0, 255.0}:
        return "binary"
    if set(found.tolist()) <= {float(code) for code in Cover}:
        return "classes"
    raise _neither(found)


def _neither(found: NDArray[np.floating]) -> InputUnsupported:
    return InputUnsupported(
        f"The mask file holds values such as {', '.join(f'{v:g}' for v in found[:8])}.",
        why="expected 0 (clear) and 1 or 255 (hidden), or the classes 0 no data, 1 clear, 2 thin cloud, 3 thick cloud, "
        "4 shadow, 5 snow, 6 other.",
        do="recode the file, and declare its nodata value if it has one.",
    )


def given(sample: Sample, kind: Kind | None = None) -> Detection:
    """A mask file in our classes; binary 1 becomes THICK. Measured ground without a value is OTHER: not known to be clear.

    `kind` None: told by `kind_of`. Raises InputMissing without a file, InputUnsupported for values that make no sense.
    """
    if sample.given is None:
        raise InputMissing(
            "There is no mask file for this series.", where=sample.place.id, do="give --mask FILE or --mask auto."
        )
    how = kind_of(sample.given) if kind is None else kind
    known = np.isfinite(sample.given)
    values = np.where(known, sample.given, 0)
    if how == "binary":
        classes = np.where(values > 0, Cover.THICK, Cover.CLEAR).astype(np.uint8)
    else:
        if not np.isin(values, list(Cover)).all():  # a tag may say "classes" of a file that was changed
            raise _neither(np.unique(values))
        classes = values.astype(np.uint8)
        known &= classes != Cover.NODATA
    classes = np.where(known, classes, np.uint8(Cover.OTHER))
    return Detection(classes=with_nodata(classes, sample.s2_valid))


def given_of(scene: Scene, i: int, threads: int = 1) -> Look:
    """`given` for date i, its coding told from the values of the whole file (or by the reader, where a tag says so)."""
    said = scene.decisions.get("mask_kind", {}).get(str(scene.dates[i]))
    if said is not None:
        return looking(scene, i, lambda sample: given(sample, said), 0)

    def values(window: Window) -> list[float]:
        found = scene.source.given(i, window)
        return [] if found is None else np.unique(found[np.isfinite(found)]).tolist()

    seen = set().union(*in_threads(values, list(scene.blocks(SURVEY_BLOCK)), threads))
    kind = kind_of(np.array(sorted(seen)))
    return looking(scene, i, lambda sample: given(sample, kind), 0)
