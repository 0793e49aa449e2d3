"""One image scored under one preset: prepare the images as the preset says, cut them into areas, collect the sums per row."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputMissing, InputUnsupported, UsageError
from unclouded.evaluation.presets import Against, Crop, Preset, Row
from unclouded.masks import MASKS
from unclouded.masks.detect import AUTO
from unclouded.metrics.areas import Areas, adaptive_target
from unclouded.metrics.pair import Mask, Pair, Sums
from unclouded.sample import HIDDEN_FROM, Cover, Place, Sample, Window

Image = NDArray[np.float32]
_NAME = re.compile(r"^(.+?)[_/-](?:p|patch_)\d+(?=$|@)")
_SEASON = re.compile(r"^ROIs(\d{4})_[a-z]+")
PUBLISHED = "meraner2020"  # the detector of DSen2-CR and GLF-CR, for 13 bands of L1C
DIGITS = 9  # of every sum: more than float32 holds; rounded here, so that a resumed run has the same bits as one in one go
SEASONS = {"1158": "spring", "1868": "summer", "1970": "fall", "2017": "winter"}


def roi_of(place: str) -> str:
    """The region a patch was cut from: its id up to the patch number; what stands before an '@' where there is none.

    'ROIs1158_spring/106/p30' -> 'ROIs1158_spring/106', 'ROIs2017/146/patch_0@2018-08-24' -> 'ROIs2017/146'.
    """
    found = _NAME.match(place)
    return found[1] if found else place.split("@")[0]


def season_of(place: str) -> str:
    """spring, summer, fall or winter of a SEN12MS-CR patch by its id; '' for other ids.

    The number of a region of SEN12MS-CR-TS is no season: its images are of the whole year.
    """
    found = _SEASON.match(place)
    return SEASONS.get(found[1], "") if found else ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a preset makes of a sample before any model runs: the sample a model is shown, the cloudy image, the areas."""

    sample: Sample  # cropped, with `cloud`
    given: Image  # (C, H, W) the cloudy input that is scored beside the prediction
    areas: Areas
    mask: str  # the detector that made the areas
    gap: int | None  # days from the scored input to the target date

    @property
    def target(self) -> Image:
        """The truth (C, H, W)."""
        assert self.sample.target is not None
        return self.sample.target


def prepare(preset: Preset, sample: Sample, mask: str | None = None) -> Case:
    """A sample cut and masked as the preset says, with 0 where nothing was measured. `mask` replaces the preset's detector.

    Raises InputMissing without a target, InputUnsupported where detector or bands do not fit.
    """
    if sample.target is None:
        raise InputMissing("A sample without a target cannot be scored.", where=sample.place.id)
    lacking = [b for b in preset.bands or () if b not in sample.place.bands]
    if lacking:
        raise InputUnsupported(
            f"The preset '{preset.name}' scores {', '.join(lacking)}, which the data lack.", where=sample.place.id
        )
    sample, name = as_stored(sample), mask or preset.mask
    if preset.mask_on == "patch":
        name, classes = classify(sample, name)
        window = crop_window(preset.crop, sample.shape)
        cut, classes = sample.crop(window), classes[(..., *window.slices)]
    else:
        cut = sample.crop(crop_window(preset.crop, sample.shape))
        name, classes = classify(cut, name)
    areas_at = scored_input(cut, classes)
    areas = Areas.of(classes, areas_at)
    if cut.cloud is None:
        hidden = np.isin(classes, (Cover.THICK, Cover.THIN, Cover.SHADOW, Cover.OTHER))
        cut = replace(cut, cloud=hidden.astype(np.float32))
    gap = None if cut.target_date is None else int((cut.target_date - cut.s2_dates[areas_at]).astype(int))
    return Case(sample=cut, given=cut.s2[areas_at], areas=areas, mask=name, gap=gap)


def as_stored(sample: Sample) -> Sample:
    """The sample with 0 wherever nothing was measured, as the data sets store it and published code is fed it.

    No number depends on what else lay there. The same sample where all was measured.
    """
    pairs = {"s2": sample.s2_valid, "s1": sample.s1_valid, "target": sample.target_valid}
    changed: dict[str, Any] = {
        name: np.where(valid[..., None, :, :], image, np.float32(0))
        for name, valid in pairs.items()
        if valid is not None and (image := getattr(sample, name)) is not None and not valid.all()
    }
    return replace(sample, **changed) if changed else sample


def crop_window(crop: Crop | None, shape: tuple[int, int]) -> Window:
    """The window a preset keeps of a patch; the whole of a smaller one."""
    if crop is None:
        return Window(0, 0, *shape)
    height, width = (min(crop.side, n) for n in shape)
    if crop.where == "top-left":
        return Window(0, 0, height, width)
    return Window((shape[0] - height) // 2, (shape[1] - width) // 2, height, width)


def classify(sample: Sample, mask: str) -> tuple[str, NDArray[np.uint8]]:
    """Class maps (T, H, W) and the name of what made them. `auto`: the sample's own cloud, else `automatic`; `given`: its own.

    Raises UsageError for an unknown detector, InputMissing for `given` without cloud.
    """
    if mask == "given" and sample.cloud is None:
        raise InputMissing("The sample has no cloud of its own.", where=sample.place.id, do="name a detector as the mask.")
    if mask in ("auto", "given") and sample.cloud is not None:
        return "given", np.where(
            sample.s2_valid, np.where(sample.cloud >= HIDDEN_FROM, Cover.THICK, Cover.CLEAR), Cover.NODATA
        ).astype(np.uint8)  # fmt: skip
    name = automatic(sample.place) if mask == "auto" else known_mask(mask)
    classes = MASKS[name].detect(as_stored(sample)).classes
    return name, np.where(sample.s2_valid, classes, np.uint8(Cover.NODATA))


def known_mask(mask: str) -> str:
    """The word itself, if it is auto, given, or a detector. Raises UsageError."""
    if mask not in ("auto", "given", *MASKS):
        raise UsageError(f"There is no cloud detector '{mask}'.", do=f"choose auto, given, {', '.join(MASKS)}.")
    return mask


def automatic(place: Place) -> str:
    """The detector that `auto` takes where a sample has no cloud of its own: meraner2020, by which the field's areas are made;
    for bands or a level that it was not made for, the first automatic one of `masks.detect` that fits.

    Raises InputUnsupported where none does.
    """
    found = next((name for name in (PUBLISHED, *AUTO) if MASKS[name].fits(place)), None)
    if found is None:
        raise InputUnsupported(
            "No cloud detector fits these bands.", where=place.id, why=f"{place.level} with {', '.join(place.bands)}.",
            do="give samples with a cloud of their own.",
        )  # fmt: skip
    return found


def scored_input(sample: Sample, classes: NDArray[np.uint8]) -> int:
    """The input that is scored beside the prediction: the target's own date if it is among them, else the least covered."""
    if sample.target_index is not None:
        return sample.target_index
    hidden = np.isin(classes, (Cover.THICK, Cover.THIN, Cover.SHADOW, Cover.OTHER, Cover.NODATA))
    return int(hidden.mean((1, 2)).argmin())


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The sums of one image by row, and what groups it belongs to. Plain numbers, so that a line of JSON holds it."""

    place: str
    bands: tuple[str, ...]  # those that the preset scores
    roi: str
    season: str
    cover: float
    gap: int | None
    mask: str
    refused: float  # share of the valid pixels that the model left open
    change: float  # mean absolute difference of input and target where the input is clear: how much the ground changed
    sums: dict[str, list[float]]


def score(preset: Preset, case: Case, prediction: Image, sigma: Image | None = None) -> Scores:
    """Sums of every row of the preset for one prediction (C, H, W) in reflectance.

    Bands that are NaN throughout were not restored, and no preset may score them. Pixels whose target was not measured never
    count; those whose input was not count in the whole, and are neither hidden nor clear. Raises RecordError where shapes
    disagree, InputUnsupported for a scored band that was not restored.
    """
    at = _scored(preset, case, prediction)
    valid: Mask = np.asarray(np.isfinite(case.target).all(0))
    if case.sample.target_valid is not None:
        valid &= case.sample.target_valid
    open_pixels = ~np.isfinite(prediction[at]).all(0) & valid
    if preset.refused == "input" and open_pixels.any():
        prediction = np.where(open_pixels, case.given, prediction)
        if sigma is not None:
            sigma = np.where(open_pixels, np.float32(0), sigma)
    pairs = _Pairs(preset, case, at, prediction, sigma, valid)
    place = case.sample.place.id
    return Scores(
        place=place, bands=pairs.bands, roi=roi_of(place), season=season_of(place), cover=case.areas.cover,
        gap=case.gap, mask=case.mask,
        refused=float(open_pixels.sum() / max(1, valid.sum())), change=_change(case, valid),
        sums={row.name: [float(f"{x:.{DIGITS}g}") for x in pairs.state(row)] for row in preset.rows},
    )  # fmt: skip


def _scored(preset: Preset, case: Case, prediction: Image) -> list[int]:
    """Where the bands stand that the preset scores."""
    bands = case.sample.place.bands
    at = list(range(len(bands))) if preset.bands is None else [bands.index(b) for b in preset.bands]
    empty = [bool(np.isnan(band).all()) for band in prediction]
    if not all(empty) and any(empty[k] for k in at):
        lacking = ", ".join(bands[k] for k in at if empty[k])
        raise InputUnsupported(
            f"The model does not restore {lacking}, which the preset '{preset.name}' scores.", where=case.sample.place.id,
            do="take a preset of fewer bands, or a model of more.",
        )  # fmt: skip
    return at


def _change(case: Case, valid: Mask) -> float:
    clear = valid & ~case.areas.hidden & case.areas.measured & np.isfinite(case.given).all(0)
    return float(np.abs(case.given - case.target)[:, clear].mean()) if clear.any() else 0.0


class _Pairs:
    """The pairs that the rows of one preset need for one image, each made once."""

    def __init__(
        self, preset: Preset, case: Case, at: list[int], prediction: Image, sigma: Image | None, valid: Mask
    ) -> None:  # fmt: skip
        self.preset, self.case, self.at, self.valid = preset, case, at, valid
        self.bands = tuple(case.sample.place.bands[k] for k in at)
        self.prediction, self.sigma = prediction[self.at], None if sigma is None else sigma[self.at] * preset.scale
        self.made: dict[tuple[Any, ...], Pair] = {}
        self.areas: dict[str, Mask | None] = {}

    def state(self, row: Row) -> Sums:
        """The sums of one row."""
        if row.area not in self.areas:
            self.areas[row.area] = self.case.areas.named(row.area)
        return row.metric.state(self._pair(row.against, row.clipped, row.without), self.areas[row.area])

    def _pair(self, against: Against, clipped: bool, without: tuple[str, ...]) -> Pair:
        without = tuple(b for b in without if b in self.bands)
        clipped = clipped and self.preset.clip is not None
        key = (against, clipped, without)
        if key not in self.made:
            if without:
                keep = [k for k, b in enumerate(self.bands) if b not in without]
                self.made[key] = self._pair(against, clipped, ()).select(keep)
            else:
                self.made[key] = self._made(against, clipped)
        return self.made[key]

    def _made(self, against: Against, clipped: bool) -> Pair:
        images = [self.prediction, self._reference(against)[self.at]]
        if clipped and self.preset.clip is not None:
            changed = [_clip(image, *self.preset.clip) for image in images]
            if all(a is b for a, b in zip(images, changed, strict=True)):  # nothing to clip: one pair serves both
                return self._pair(against, False, ())
            images = changed
        if self.preset.preview:
            images = [stretched_to_8_bit(image) for image in images]
        if self.preset.scale != 1:
            images = [image * np.float32(self.preset.scale) for image in images]
        valid = self.valid & self.case.areas.measured if against == "input" else self.valid
        return Pair(images[0], images[1], valid, bands=self.bands, sigma=self.sigma)

    def _reference(self, against: Against) -> Image:
        if against == "target":
            return self.case.target
        if against == "input":
            return self.case.given
        unseen = self.case.areas.hidden | ~self.case.areas.measured
        return adaptive_target(self.case.target, self.case.given, unseen).astype(np.float32)


def _clip(image: Image, low: float, high: float) -> Image:
    """Clipped; the same object where nothing is outside, so that work can be shared."""
    with np.errstate(invalid="ignore"):
        inside = not ((image < low).any() or (image > high).any())
    return image if inside else np.clip(image, low, high)


def stretched_to_8_bit(image: Image) -> Image:
    """An image (C, H, W) as its own 8-bit preview, over its own least and largest value, back in [0, 1]."""
    if not np.isfinite(image).any():
        return image
    low, high = float(np.nanmin(image)), float(np.nanmax(image))
    return (np.rint((image - low) / max(high - low, 1e-12) * 255) / 255).astype(np.float32)
