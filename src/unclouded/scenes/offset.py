"""Is the offset of -1000 (processing baseline 04.00 on) still in the counts? Decided per date, always with evidence.

The rule: a product's own metadata decides (SAFE XML values, scale and offset tags, a baseline tag); only counts that come
without any are looked at. With the offset in, even the darkest pixels of every band lie near 1000 or above; without it, some
band of some date has darker ones. A fully clouded date cannot tell, so dates without metadata of one era speak together: one
that is too dark for the offset says that none of them has it; where there is none, one that looks like it says that all have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from unclouded.errors import UsageError
from unclouded.raster import opened
from unclouded.scenes.geotiff import OFFSET_BASELINE
from unclouded.scenes.stored import StoredBands, StoredImage, glimpse

OFFSET = -1000.0
ERA = np.datetime64("2022-01-25")  # baseline 04.00 became operational; older dates were reprocessed later, so no proof
DARK = 900.0  # counts: the 0.1 percentile of a band that carries the offset lies above
BRIGHT = 3000.0  # the darkest band of a date lies above this: cloud everywhere, which tells nothing
NEGATIVE_SHARE = 0.01  # more counts below zero after the offset: it was taken off twice
ENOUGH = 64  # pixels

Verdict = Literal["in", "absent", "unknown"]


@dataclass(frozen=True)
class Seen:
    """What a few windows of a date show: the darkest band's 0.1 percentile, and the share below -offset."""

    darkest: float
    below: float

    @property
    def verdict(self) -> Verdict:
        """Whether the offset is still in the counts."""
        if not np.isfinite(self.darkest) or self.darkest > BRIGHT:
            return "unknown"
        return "in" if self.darkest >= DARK else "absent"


def look(image: StoredImage, *, parts: Sequence[StoredBands] | None = None, **how: int) -> Seen:
    """Read a few small windows of a date."""
    darkest, below = np.inf, 0.0
    for part in image.parts if parts is None else parts:
        missing = (*part.missing, 0.0) if part.blank else part.missing
        for path in dict.fromkeys(p.path for p in part.where):
            indexes = [p.band for p in part.where if p.path == path]
            for values in glimpse(opened(path), indexes, missing, **how):
                if values.size >= ENOUGH:
                    darkest = min(darkest, float(np.percentile(values, 0.1)))
                    below = max(below, float((values < -OFFSET).mean()))
    return Seen(darkest, below)


def settle(images: Sequence[StoredImage], option: str | float) -> tuple[list[StoredImage], list[dict[str, Any]]]:
    """The images with their offsets, and per date what was decided and why. `option`: 'auto', 'none' or a number of DN."""
    if option != "auto":
        both = [_as_told(image, 0.0 if option == "none" else _number(option), f"--offset {option}") for image in images]
        return [image for image, _ in both], [note for _, note in both]
    silent = [not image.offset_evidence and _counts(image) for image in images]
    seen = [look(image) if quiet else None for image, quiet in zip(images, silent, strict=True)]
    settled = [_settle(image, look_, seen, images) for image, look_ in zip(images, seen, strict=True)]
    return [image for image, _ in settled], [note for _, note in settled]


def _number(option: str | float) -> float:
    try:
        value = float(option)
    except ValueError:
        value = np.nan
    if not np.isfinite(value) or abs(value) > 10_000:
        raise UsageError(f"--offset {option} is not understood.", do="use auto, none, or a number such as -1000.")
    return value


def _as_told(image: StoredImage, offset: float, option: str) -> tuple[StoredImage, dict[str, Any]]:
    """A date with the offset of an option, which is of counts: reflectance has none."""
    if all(part.quantification == 1 for part in image.parts):
        text = f"reflectance, not counts: {option} does not apply"
        return image, _note(image, image.finest.offset[0], text, warning=f"{image.date}: {text}" if offset else "")
    return _with(image, offset), _note(image, offset, option)


def _counts(image: StoredImage) -> bool:
    return all(part.quantification > 1 for part in image.parts)


def _settle(
    image: StoredImage, seen: Seen | None, all_seen: Sequence[Seen | None], images: Sequence[StoredImage]
) -> tuple[StoredImage, dict[str, Any]]:
    if seen is not None:
        return _by_sight(image, seen, all_seen, images)
    if image.offset_final or not image.baseline or not _counts(image):
        return image, _note(image, image.finest.offset[0], image.offset_evidence or "reflectance, not counts")
    return _by_baseline(image)


def _by_baseline(image: StoredImage) -> tuple[StoredImage, dict[str, Any]]:
    """Counts with a baseline among their tags: below 04.00 no offset; from it on -1000, unless the pixels say it is gone."""
    try:
        late = float(image.baseline) >= OFFSET_BASELINE
    except ValueError:
        late = False
    if not late:
        return _with(image, 0.0), _note(image, 0.0, f"{image.offset_evidence}: older than 04.00")
    seen = look(image)
    if seen.below > NEGATIVE_SHARE:
        text = f"{image.offset_evidence}, but {seen.below:.0%} of a band would fall below zero: already removed"
        return _with(image, 0.0), _note(image, 0.0, text, warning=text)
    return _with(image, OFFSET), _note(image, OFFSET, image.offset_evidence)


def _by_sight(
    image: StoredImage, seen: Seen, all_seen: Sequence[Seen | None], images: Sequence[StoredImage]
) -> tuple[StoredImage, dict[str, Any]]:
    """Counts without metadata: what the dates of its era show together. Absent wins: clouds brighten, nothing darkens so."""
    era = [s.verdict for s, i in zip(all_seen, images, strict=True) if s is not None and (i.date < ERA) == (image.date < ERA)]
    fact = f"no metadata; the darkest band's 0.1 percentile is {seen.darkest:.0f} DN"
    if "absent" in era:
        return _with(image, 0.0), _note(image, 0.0, *_without(image, seen, fact))
    if "in" not in era:
        return _with(image, 0.0), _note(image, 0.0, fact)
    warning = f"{image.date}: {fact}, so the offset is taken to be still in. If the ground is just bright: --offset none"
    return _with(image, OFFSET), _note(image, OFFSET, fact, warning=warning)


def _without(image: StoredImage, seen: Seen, fact: str) -> tuple[str, str]:
    """Evidence and warning for a date of an era whose darkest pixels show that the offset is gone."""
    if seen.verdict != "in":
        return fact, ""
    fact += "; other dates of its time are too dark for the offset, so this one is bright without it"
    if image.date < ERA or seen.darkest >= DARK - OFFSET:  # brighter than clear ground with the offset: a clouded date
        return fact, ""
    return fact, f"{image.date}: {fact}. If this date does carry it: tag the file PROCESSING_BASELINE=05.00"


def _with(image: StoredImage, offset: float) -> StoredImage:
    """The image with an offset for its counts; parts that are reflectance stay."""
    return replace(image, parts=tuple(part.shifted(offset) if part.quantification != 1 else part for part in image.parts))


def _note(image: StoredImage, offset: float, evidence: str, warning: str = "") -> dict[str, Any]:
    note: dict[str, Any] = {"date": str(image.date), "offset": offset, "evidence": evidence}
    return note | ({"warning": warning} if warning else {})
