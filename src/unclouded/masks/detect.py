"""What is hidden on every date of a scene: choose a detector, run it block by block, screen over time, grow. Read this first.

The class maps lie in one array (T, H, W) of bytes, on disk for a large scene. While it is being made, the low four bits of
a byte hold the class as detected and the high four the class as decided, so that a block never sees its neighbour's result:
the outcome is the same whatever the block size. So it does not matter either when a block is decided: where only the
surroundings of clouds will be looked at, the other dates are decided there when somebody looks (`lazy.LazyMaps`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf, isfinite, nan
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputUnsupported, UsageError
from unclouded.masks import MASKS, screening, shadow
from unclouded.masks.delivered import scl_classes
from unclouded.masks.detection import Detector, Look
from unclouded.masks.lazy import DECIDED, DETECTED, LazyMaps, Maps, decided, mapped
from unclouded.masks.morphology import Pixel, grow, pixel_metres, reach
from unclouded.masks.sun import Sun, sun_over
from unclouded.sample import HIDING, Cover, Sample, Window, as_day
from unclouded.workers import in_processes, in_threads

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

# Where neither a mask file nor SCL is delivered: the first that fits. Of the threshold rules the six-band one, which measured
# better than the papers' detector in cloud and shadow alike (docs/masks.md) and fits wherever that one does.
AUTO = ("s2cloudless", "sixband")
BECAUSE = {
    "s2cloudless": "fits and comes first",
    "sixband": "fits, and measured better than the thresholds of the papers",
}
GROW_METRES = 20.0
CORNER = Window(0, 0, 1, 1)  # enough to see whether there is a layer
FEW = 0.5  # of the dates to restore, hidden: with more, all dates are decided at once, by all processes
FEW_SCREENED = 0.05  # the same where these must be compared with all others anyway: that alone is 0.7 of deciding them too
BLOCK = 512
BLOCK_BYTES = 256 * 2**20  # what the reflectances of one block may take while it is screened
GROWN_ORDER = (Cover.THICK, Cover.THIN, Cover.SHADOW)  # whose margin wins; a defect (OTHER) has none


@dataclass(frozen=True)
class Choice:
    """The detector of one date and the reason for it. A final mask is the user's own word: neither grown nor screened."""

    name: str
    why: str
    final: bool = False


def detect(
    scene: Scene,
    *,
    mask: str = "auto",
    targets: Sequence[np.datetime64] | None = None,
    screen: bool = True,
    grow: float = GROW_METRES,
    out: str | PathLike[str] | None = None,
    block: int = BLOCK,
    workers: int = 1,
    lazily: bool = False,
) -> Scene:
    """The scene with class maps for all dates, and with `decisions["masks"]`: per date the detector, why, and the shares.

    `mask`: "auto" or a name of `MASKS`. `targets`: dates to restore, on which a mask file is final (None: on all dates) and
    screening gives the observation the benefit of the doubt.
    `screen`: look for missed cloud and shadow over time. `grow`: metres added around what a detector finds. `out`: a file
    for a memory map of the class maps; None keeps them in memory. `block`: pixels at a time; no influence on the result.
    `workers`: processes, which share the map in `out`; for a single date, and without `out`, threads of this one.
    `lazily`: where little is hidden on `targets`, the other dates are decided only where they are looked at (`LazyMaps`); the
    classes are the same, but of those dates no shares are told.

    Raises UsageError for an unknown detector or a margin that is no length, InputUnsupported where no detector fits.
    """
    check_margin(grow, block)
    bare = replace(scene, s1_dates=None, s1_orbits=None, masks=None)  # neither radar nor old masks are read
    wanted = None if targets is None else {as_day(t) for t in targets}
    chosen = [choose(bare, i, mask, wanted) for i in range(len(scene.dates))]
    shape = (len(scene.dates), *scene.shape)
    maps = np.zeros(shape, np.uint8) if out is None else np.memmap(out, np.uint8, "w+", shape=shape)
    apart = out is not None and workers > 1 and len(chosen) > 1
    shared: Maps = (str(out), shape) if out is not None and (apart or lazily) else maps
    restored = np.array([wanted is None or day in wanted for day in scene.dates])
    screened = screen and len(chosen) >= screening.FEWEST
    laid = tuple(
        i for i, c in enumerate(chosen) if (screened or lazily) and not restored[i] and c.name == "scl" and _has_scl(bare, i)
    )
    first = [i for i in range(len(chosen)) if i not in laid]
    spread = workers if apart and len(first) > 1 else 1  # a date to each process; threads for a single one
    work = partial(_detect_one, bare, [c.name for c in chosen], restored, block, shared, 1 if spread > 1 else workers)
    shades = dict(in_processes(work, first, spread))
    deciding = _Deciding(
        bare, shared, laid, asked=np.ones(len(chosen), bool), final=np.array([c.final for c in chosen]),
        trusted=restored & (wanted is not None), screened=screened, metres=grow, block=block,
    )  # fmt: skip
    near = lazily and not restored.all() and _is_little([maps[i] for i in np.flatnonzero(restored)], deciding.final[restored])
    now = replace(deciding, asked=restored) if near else deciding
    counts = _decide(now, scene.window, workers=workers, apart=apart)
    record = {
        "asked": mask, "grow_metres": grow, "screen": _screen_record(screen, len(chosen), screening.FEWEST),
        "bright_ground": _screen_record(screen, len(chosen), screening.STAYS),
        "dates": {
            str(day): _date_record(chosen[i], counts[i] if now.asked[i] else None, shades.get(i))
            for i, day in enumerate(scene.dates)
        },
    }  # fmt: skip
    if near:
        masks: NDArray[np.uint8] | LazyMaps = LazyMaps(shared, partial(_decide, replace(deciding, asked=~restored)))
    else:
        masks = maps
        for layer in maps:
            layer[:] = decided(layer)
    return replace(scene.with_masks(masks), decisions={**scene.decisions, "masks": record})


def check_margin(grow: float, block: int = BLOCK) -> None:
    """Refuse a margin in metres, or a block, that cannot be. Raises UsageError."""
    if not 0 <= grow < inf or block < 1:  # NaN is refused, too
        raise UsageError(f"grow is {grow} m and block {block} pixels; expected 0 or more metres, and 1 or more.")


def _is_little(detected: Sequence[NDArray[np.uint8]], final: NDArray[np.bool_]) -> bool:
    """Whether so little is hidden on some dates, (H, W) each, as detected, that deciding near it alone is less work."""
    hidden = sum(int(HIDING[rows & DETECTED].sum()) for layer in detected for rows in np.array_split(layer, 16))
    return hidden <= (FEW if final.all() else FEW_SCREENED) * sum(layer.size for layer in detected)


def scores(scene: Scene, i: int, threads: int = 1) -> Look:
    """A look at any window of date i by the detector that `detect` chose for it: `.probability` goes beside the classes.

    Raises UsageError for a scene that has not been through `detect`.
    """
    record = scene.decisions.get("masks")
    if record is None:
        raise UsageError("This scene has no masks yet.", where=scene.place.id, do="call detect(scene) first.")
    bare = replace(scene, s1_dates=None, s1_orbits=None, masks=None)
    return MASKS[record["dates"][str(scene.dates[i])]["detector"]].looking(bare, i, threads)


def choose(scene: Scene, i: int, mask: str, targets: set[np.datetime64] | None = None) -> Choice:
    """The detector of date i. "auto": the date's mask file, else SCL, else the first detector of `AUTO` that fits.

    Raises UsageError for a name that is not in `MASKS`, InputUnsupported where nothing fits.
    """
    if mask not in ("auto", *MASKS):
        raise UsageError(f"There is no cloud detector '{mask}'.", do=f"choose auto, {', '.join(MASKS)}.")
    final = targets is None or scene.dates[i] in targets
    if mask in ("auto", "file") and scene.source.given(i, CORNER) is not None:
        return Choice("file", "the date has a mask file", final)
    if mask not in ("auto", "file"):
        return Choice(mask, "asked for")
    if scene.place.level == "L2A" and _has_scl(scene, i):
        return Choice("scl", "L2A with its scene classification")
    against = {name: MASKS[name].lacks(scene.place) for name in AUTO}
    for name in AUTO:
        if not against[name]:
            passed = [f"{other}: {against[other]}" for other in AUTO[: AUTO.index(name)]]
            why = [f"{scene.place.level} without mask file and SCL", *passed, f"{name}: {BECAUSE[name]}"]
            return Choice(name, "; ".join(why))
    raise InputUnsupported(
        f"No cloud detector fits the image of {scene.dates[i]}.",
        where=scene.place.id,
        why=f"it is {scene.place.level} with {', '.join(scene.place.bands)}, and has neither SCL nor a mask file; "
        + "; ".join(f"{name}: {reason}" for name, reason in against.items())
        + ".",
        do="give a mask with --mask FILE (0 clear, 1 hidden), or a product with more bands.",
    )


def _has_scl(scene: Scene, i: int) -> bool:
    return scene.source.scl(i, CORNER) is not None


def _detect_one(
    scene: Scene, names: Sequence[str], restored: NDArray[np.bool_], block: int, maps: Maps, threads: int, i: int
) -> tuple[int, dict[str, Any] | None]:
    """A layer delivered with a date that is not restored is taken where the bands that screening looks at were measured
    (an SCL only where there is no screening, see `_Deciding.laid`)."""
    detector = MASKS[names[i]]
    lean = screening.bands(scene.place.bands) if detector.delivered and not restored[i] else set()
    return i, _detect_date(scene.only(lean) if lean else scene, i, detector, block, mapped(maps)[i], threads)


def _detect_date(
    scene: Scene, i: int, detector: Detector, block: int, classes: NDArray[np.uint8], threads: int
) -> dict[str, Any] | None:
    """Write the classes (H, W) of one date as detected, with shadows from geometry where the detector finds none itself."""
    look = detector.looking(scene, i, threads)
    pixel = pixel_metres(scene.place)
    geometric = not detector.shadows and shadow.fits(scene.place.bands)
    view = shadow.Overview.empty(scene.shape, pixel) if geometric else None
    step = block if view is None else ceil(block / view.factor) * view.factor
    dark = scene.only(shadow.bands(scene.place.bands)) if geometric else scene

    def detected(window: Window) -> None:
        classes[window.slices] = look(window).classes[0]
        if view is not None:
            view.add(window, dark.read(window, only=[i]), classes[window.slices])

    _all(in_threads(detected, list(scene.blocks(step)), threads))
    if view is None:
        return None
    shade = shadow.find(view, pixel, sun_of(scene, i))
    if shade is None:
        return {"placed": 0}

    def shaded(window: Window) -> None:
        around = window.grow(2 * reach(shadow.OPEN_METRES, pixel), scene.shape)
        found = shadow.apply(shade, around, dark.read(around, only=[i]), classes[around.slices], pixel)
        classes[window.slices][found[window.inside(around).slices]] = Cover.SHADOW  # still ground to its neighbours

    _all(in_threads(shaded, list(scene.blocks(block)), threads))
    return {"placed": shade.placed, "sun_azimuth": round(shade.azimuth, 1), "sun_known": shade.known}


def _all(work: Iterable[None]) -> None:
    """See it through: work is done as it is asked for."""
    for _ in work:
        pass


def sun_of(scene: Scene, i: int) -> Sun | None:
    """Where the sun stood on date i: as the product's metadata say, else from place and date; None without either."""
    for product in scene.decisions.get("products", ()):
        if product.get("date") == str(scene.dates[i]) and isfinite(product.get("sun_azimuth", nan)):
            return Sun(product["sun_azimuth"], product["sun_zenith"])
        if product.get("undated"):
            return None
    return sun_over(scene.place, scene.dates[i])


@dataclass(frozen=True)
class _Deciding:
    """What every window of `_decide` works with."""

    scene: Scene
    maps: Maps
    laid: tuple[int, ...]  # dates that are not restored and have an SCL: it is laid over what screening reads of them
    asked: NDArray[np.bool_]  # (T,) dates to decide
    final: NDArray[np.bool_]  # (T,)
    trusted: NDArray[np.bool_]  # (T,)
    screened: bool
    metres: float
    block: int

    @property
    def judged(self) -> NDArray[np.intp]:
        """The dates that are compared with the others, ascending."""
        return np.flatnonzero(self.asked & ~self.final)

    @property
    def halo(self) -> int:
        """Pixels around a window that it depends on."""
        pixel = pixel_metres(self.scene.place)
        compared = screening.halo(pixel, bool(self.trusted[self.judged].any())) + screening.ground_halo(pixel)
        return reach(self.metres, pixel) + (compared if self.screened else 0)

    def windows(self, within: Window) -> list[Window]:
        """A part of the scene in pieces that can be held."""
        sides = (self.block, self.block)
        if self.screened or self.laid:
            sides = _sides(self.block, self.halo, len(self.final))
        inside = replace(self.scene, shape=(within.height, within.width)).blocks(*sides)
        return [w._replace(row=w.row + within.row, col=w.col + within.col) for w in inside]


def _decide(by: _Deciding, within: Window, *, workers: int = 1, apart: bool = False) -> NDArray[np.int64]:
    """Write the classes of a part of the scene as decided into the high bits, of the dates asked.

    Counts (T, 5): valid, clear as detected, cloud and shadow screened, cloud that is bright ground.
    """
    windows, counts = by.windows(within), np.zeros((len(by.final), 5), np.int64)
    for some in (in_processes if apart else in_threads)(partial(_decide_window, by), windows, workers):
        counts += some
    return counts


def _decide_window(by: _Deciding, window: Window) -> NDArray[np.int64]:
    """One window of `_decide`. It changes only its own bytes, and of those only bits that no other window looks at."""
    pixel, maps = pixel_metres(by.scene.place), mapped(by.maps)
    dates: slice | NDArray[np.intp] = slice(None) if by.asked.all() else np.flatnonzero(by.asked)
    counts = np.zeros((len(by.final), 5), np.int64)
    if not len(by.judged):  # the user's own word: nothing around it, no other date has a say
        found = maps[(dates, *window.slices)] & DETECTED
        maps[(dates, *window.slices)] = found | (found << np.uint8(4)) | DECIDED
        counts[dates, :2] = _measured_and_clear(found)
        return counts
    around = window.grow(by.halo, by.scene.shape)
    inside = (dates, *window.inside(around).slices)
    final = by.final[:, None, None]
    found = np.asarray(maps[(slice(None), *around.slices)]) & DETECTED
    missed, ground = np.zeros_like(found), np.zeros(found.shape, bool)
    lean = _read_lean(by.scene, around) if by.screened or by.laid else None
    if lean is not None:
        for i in by.laid:
            found[i] = scl_classes(np.asarray(by.scene.source.scl(i, around)), lean.s2_valid[i], by.scene.place.id)
    if lean is not None and by.screened:
        ground = screening.bright_ground(lean, found, pixel) & ~final
    kept = np.where(ground, np.uint8(Cover.CLEAR), found)
    classes = np.where(final, found, widen(kept, by.metres, pixel))
    if lean is not None and by.screened:
        missed = screening.screen(lean, classes, pixel, by.trusted, by.judged)
        classes = np.where(missed > 0, missed, classes)
    maps[(dates, *window.slices)] |= (classes[inside] << np.uint8(4)) | DECIDED
    counts[dates, :2] = _measured_and_clear(found[inside])
    counts[dates, 2:] = np.stack([
        (missed[inside] == Cover.THIN).sum((1, 2)), (missed[inside] == Cover.SHADOW).sum((1, 2)),
        ground[inside].sum((1, 2)),
    ], axis=1)  # fmt: skip
    return counts


def _measured_and_clear(found: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Classes (n, h, w) as detected -> how many pixels were measured, and how many of them are clear, (n, 2)."""
    return np.stack([(found != Cover.NODATA).sum((1, 2)), (~HIDING[found] & (found > 0)).sum((1, 2))], axis=1)


def widen(classes: NDArray[np.uint8], metres: float, pixel: Pixel) -> NDArray[np.uint8]:
    """Classes (T, H, W) with a margin around cloud and shadow, of their own class; what was hidden before keeps its class."""
    free = ~HIDING[classes] & (classes != Cover.NODATA)
    wide = classes.copy()
    for code in GROWN_ORDER[::-1]:
        wide[grow(classes == code, metres, pixel) & free] = code
    return wide


def _sides(block: int, halo: int, dates: int) -> tuple[int, int]:
    """Height and width of windows that keep the layers of all dates (four bands, eight references) within `BLOCK_BYTES`.

    Up to twice as high as wide: from left to right neighbours share what they read, from row to row they do not.
    """
    pixels = BLOCK_BYTES / (dates * 12 * 4)
    width = max(32, min(block, int(pixels**0.5) - 2 * halo))
    return max(width, min(2 * block, int(pixels / (width + 2 * halo)) - 2 * halo)), width


def _read_lean(scene: Scene, window: Window) -> Sample:
    """All dates of a window, with only the bands that screening looks at: read date by date, so that it stays small."""
    lean = scene.only(screening.bands(scene.place.bands))
    s2 = np.empty((len(scene.dates), len(lean.place.bands), window.height, window.width), np.float32)
    valid = np.empty((len(scene.dates), window.height, window.width), bool)
    for i in range(len(scene.dates)):
        s2[i], valid[i] = lean.source.s2(i, window)
    return Sample(place=lean.place.at(window), s2=s2, s2_valid=valid, s2_dates=scene.dates)


def _screen_record(screen: bool, dates: int, least: int) -> str:
    if not screen:
        return "off: not wanted"
    return "on" if dates >= least else f"off: {dates} dates, it takes {least}"


def _date_record(choice: Choice, counts: NDArray[np.int64] | None, shade: dict[str, Any] | None) -> dict[str, Any]:
    """What the manifest tells of one date; shares are of the measured pixels, None where not all were looked at."""
    record: dict[str, Any] = {"detector": choice.name, "why": choice.why, "final": choice.final}
    if counts is not None:
        record |= _shares(counts)
    return record if shade is None else {**record, "shadows": shade}


def _shares(counts: NDArray[np.int64]) -> dict[str, float]:
    valid, clear, cloud, dark, ground = (int(n) for n in counts)
    of = max(valid, 1)
    return {
        "clear_detected": round(clear / of, 6), "screened_cloud": round(cloud / of, 6), "screened_shadow": round(dark / of, 6),
        "bright_ground": round(ground / of, 6),
    }  # fmt: skip
