"""`--dry-run`: what a run would read, write, take in memory and in time, before it does.

Masks are made and dates read on a few windows of the input, which tells what these take, how much is hidden, and how much of it
lies at rims; everything else comes from one table of measured costs (`COSTS`), times what a short piece of arithmetic takes on
this machine. Processor seconds are counted, so that other work on the machine changes little: minutes are those of a machine
that does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from unclouded.budget import MIB, afford, copying
from unclouded.masks import MASKS
from unclouded.masks.detect import FEW, FEW_SCREENED, GROW_METRES, choose, detect, widen
from unclouded.masks.morphology import pixel_metres
from unclouded.models import DEFAULT, MODELS, NETWORK_SPEED, load
from unclouded.models.running import computing_on, place_on
from unclouded.models.scene_store import kept_for
from unclouded.models.scene_store import load as learned
from unclouded.products.fill import layers_of
from unclouded.sample import HIDING, Cover, Window
from unclouded.scenes.scene import Layer, Scene

GLIMPSE = 256  # pixels
GLIMPSES, LOOKS = 9, 64  # windows in which all dates are read, and in which hidden pixels are looked for
CELL, REACH = 64, 32  # pixels: what the default remover takes at a time, and how far it looks for clear ones
# Processor seconds on one core where `pace` is 1, measured with `python benchmarks/tile.py --size 2048 --memory 6GiB --ratios`
# (5 and 12 dates). Per Mpx of the scene unless said otherwise; what grows with the bands is per ten of them.
COSTS: Mapping[str, float] = {
    "start": 2.2,  # seconds, of the program
    "processes": 4.5,  # seconds, once, where there are several
    "margins": 0.8,  # times the masks of a window alone: larger ones share what lies around them
    "final": 0.24,  # masks of a restored date that are given, where the other dates' are decided near hidden pixels only,
    "compared": 0.72,  # and of one that must be compared with them, as a share of the masks of all dates
    "around": 1.1,  # times the parts that are read to rebuild: where masks are decided for that
    "around study": 1.7,  # times the windows of the study: the same for that
    "study": 1.5,  # seconds of the default, per restored date with hidden pixels, beside reading its sample
    "studied": 8.0,  # more of them where the scene has all of the pixels that it studies
    "studied date": 1.2,  # and these for each date of the series
    "study of others": 1.3,  # Mpx of hidden pixels that cost other removers as much
    "hidden": 5.0,  # of the default, per Mpx of hidden pixels
    "rims": 6.6,  # of the default, per Mpx of cells that hold hidden pixels with clear ones around
    "other dates": 0.056,  # more of both for each date of the series beyond five, as a share
    "passes": 1.0,  # times a hidden pixel is read as it is in a window alone: with margins, but neighbours share them
    "filling": 0.28,  # counts to the product, packed for the journal
    "publishing": 0.94,  # rasters written, read back, digested
    "varied": 0.5,  # more of it, times the root of the hidden share up to a half: sigma, age, source are no longer one value
    "report": 0.4,  # seconds per restored date
    "pictures": 0.4,  # per Mpx, up to SHOWN
}
SHOWN, STUDIED, SURVEYED = 1.5, 0.057, 2.36  # Mpx: of the pictures, that the default studies, and that it reads for that
PIECE = 0.0021  # seconds that `pace` took on that core


@dataclass(frozen=True)
class Glimpse:
    """What a few windows of one restored date tell, as shares of its pixels."""

    hidden: float
    rims: float  # in cells that hold hidden pixels and have clear ones around them
    final: bool = False  # whether the mask is given and so final


def estimate(
    scene: Scene,
    dates: Sequence[np.datetime64],
    model: str,
    settings: Mapping[str, Any] | None = None,
    weights: str | PathLike[str] | None = None,
    *,
    mask: str = "auto",
    grow: float = GROW_METRES,
    screen: bool = True,
    device: str = "auto",
    fill_nodata: bool = False,
    resolution: float | None = None,
    scene_model: Path | None = None,
    memory: int | None = None,
    workers: int | None = 1,
) -> dict[str, Any]:
    """Units, bytes, processor seconds by stage, minutes and MiB for restoring `dates` of a scene.

    `mask`: "auto" or a detector; a mask file is the scene's. Seconds are those of processors, whatever the `device`.
    `fill_nodata`: pixels without data count as hidden, too. `scene_model`: what an earlier run learned, a file or a folder of
    products; then nothing is studied.
    Raises BudgetTooSmall, and InputMissing or InputCorrupt for the scene model of a date that has hidden pixels.
    """
    remover = place_on(device, load(model, settings, weights), model)
    budget = afford(scene, remover.needs, memory=memory, workers=workers)
    pixels, bands = prod(scene.shape), len(scene.place.bands)
    trial = _masked(scene, dates, mask, grow, screen)
    seen = [_glimpsed(scene, day, dates, mask, grow, trial, fill_nodata) for day in dates]
    if scene_model is not None:
        _check_learned(scene_model, [day for day, glimpse in zip(dates, seen, strict=True) if glimpse.hidden])
    near, slow = remover.needs.masks == "near" and len(dates) < len(scene.dates), pace()
    spent = _spent(scene, seen, _mask_seconds(scene, seen, trial.seconds, near, slow), model, budget.workers, slow)
    spent |= {"study": 0.0} if scene_model is not None else {}
    most = budget.peak if any(glimpse.hidden for glimpse in seen) else copying(scene, remover.needs, budget.workers)
    stored, written = _layer_bytes(scene.source.layers(0)), _layer_bytes(layers_of(scene, dates[0], resolution))
    return {
        "dates": len(dates),
        "blocks": len(dates) * prod(-(-side // budget.block) for side in scene.shape),
        "block": budget.block,
        "workers": budget.workers,
        "device": computing_on(remover),
        "pixels": list(scene.shape),
        "bands": list(scene.place.bands),
        "hidden": round(float(np.mean([glimpse.hidden for glimpse in seen])), 3),
        "read_mib": round(stored * len(scene.dates) * (1 + len(dates) * COSTS["passes"]) / MIB, 1),
        "write_mib": round(len(dates) * (written + pixels * (2 * bands + 4)) / MIB, 1),
        "scratch_mib": round((written + pixels * (2 * bands + 4) + pixels * len(scene.dates)) / MIB, 1),
        "memory_mib": round(most / MIB),
        "cpu_seconds": {stage: round(seconds, 1) for stage, seconds in spent.items()},
        "minutes": round(_clock(spent, budget.workers, remover.needs.one_process) / 60, 2),
    }


def _layer_bytes(layers: Sequence[Layer]) -> int:
    return sum(prod(layer.shape) * len(layer.bands) * np.dtype(layer.dtype).itemsize for layer in layers)


def _check_learned(path: Path, dates: Sequence[np.datetime64]) -> None:
    """Whether there is a sound scene model for every date; whether it fits is seen when the masks are made."""
    for day in dates:
        learned(kept_for(path, day))


class MaskSeconds(NamedTuple):
    """Processor seconds of the masks of one Mpx of all dates: of the whole scene at once, and where they are decided later."""

    at_once: float
    to_rebuild: float  # per Mpx read to rebuild
    to_study: float  # per Mpx of the study


def _mask_seconds(scene: Scene, seen: Sequence[Glimpse], all_dates: float, near: bool, slow: float) -> MaskSeconds:
    """`all_dates`: what windows took in which all dates were decided; `near`: the remover looks near hidden pixels only."""
    all_dates, cost, final = all_dates * COSTS["margins"], COSTS, all(glimpse.final for glimpse in seen)
    if not near or float(np.mean([glimpse.hidden for glimpse in seen])) > (FEW if final else FEW_SCREENED):
        return MaskSeconds(all_dates, 0.0, 0.0)
    first = cost["final"] * len(scene.place.bands) / 10 * slow * len(seen) if final else cost["compared"] * all_dates
    return MaskSeconds(min(first, all_dates), cost["around"] * all_dates, cost["around study"] * all_dates)


def _spent(
    scene: Scene, seen: Sequence[Glimpse], masks: MaskSeconds, model: str, workers: int, slow: float
) -> dict[str, float]:
    """Processor seconds of each stage; `slow`: the pace of this machine."""
    mpx, tens, cost = prod(scene.shape) / 1e6, len(scene.place.bands) / 10, COSTS
    some = [glimpse for glimpse in seen if glimpse.hidden]
    speed = MODELS[model].speed if model in MODELS else NETWORK_SPEED  # else a file or folder of trained weights
    read, parts = _read_seconds(scene), sum(glimpse.hidden**0.5 for glimpse in some)
    if model == DEFAULT:
        full = cost["studied"] + cost["studied date"] * len(scene.dates)
        study = cost["study"] + full * min(1.0, mpx / STUDIED)
        survey = (read + masks.to_study) * min(mpx, SURVEYED) if some else 0.0  # once for all dates
        longer = 1 + cost["other dates"] * (len(scene.dates) - 5)
        rebuild = longer * sum(cost["hidden"] * glimpse.hidden + cost["rims"] * glimpse.rims for glimpse in some)
    else:
        study, survey = cost["study of others"] * speed * min(1.0, mpx), 0.0
        rebuild = sum(speed * glimpse.hidden for glimpse in some)
    read_near = read * cost["passes"] + masks.to_rebuild
    publish = [(cost["publishing"] + cost["varied"] * min(0.5, glimpse.hidden) ** 0.5) * tens * mpx for glimpse in seen]
    report = cost["report"] + cost["pictures"] * min(mpx, SHOWN)
    return {
        "start": slow * (cost["start"] + (cost["processes"] if workers > 1 else 0.0)),
        "masks": masks.at_once * mpx,
        "study": survey + slow * study * len(some),
        "rebuild": (read_near * parts + slow * (rebuild + cost["filling"] * tens * len(seen))) * mpx,
        "publish": slow * (sum(publish) + report * len(seen)),
    }


def _clock(spent: Mapping[str, float], workers: int, alone: bool = False) -> float:
    """Seconds by the clock. Some parts are shared worse than others: study is two tasks, the largest raster one of five."""
    computing = 1 if alone else workers
    several = {"masks": workers, "rebuild": computing, "study": min(computing, 1.5), "publish": min(workers, 1.6)}
    return sum(seconds / several.get(stage, 1) for stage, seconds in spent.items())


def pace(repeats: int = 60) -> float:
    """How many times as long arithmetic takes on this machine as where the constants were measured, in processor seconds.

    The tenth percentile of some repeats: what else the machine does makes the others longer.
    """
    rng = np.random.default_rng(0)
    some, others = rng.random((1024, 64), np.float32), rng.random((512, 64), np.float32)
    taken = []
    with threadpool_limits(1):
        for _ in range(repeats):
            start = time.process_time()
            near = some @ others.T
            np.exp(near - near.max(1)[:, None], out=near)
            near.sum(1)
            taken.append(time.process_time() - start)
    return float(np.quantile(taken, 0.1)) / PIECE


@dataclass(frozen=True)
class Part:
    """A window of a scene as a source of its own."""

    scene: Scene
    at: Window

    def _shifted(self, window: Window) -> Window:
        return Window(self.at.row + window.row, self.at.col + window.col, window.height, window.width)

    def s2(self, i: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See PixelSource; so the others."""
        return self.scene.source.s2(i, self._shifted(window))

    def s1(self, k: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:  # noqa: D102
        return self.scene.source.s1(k, self._shifted(window))

    def scl(self, i: int, window: Window) -> NDArray[np.uint8] | None:  # noqa: D102
        return self.scene.source.scl(i, self._shifted(window))

    def given(self, i: int, window: Window) -> NDArray[np.float32] | None:  # noqa: D102
        return self.scene.source.given(i, self._shifted(window))

    def layers(self, i: int) -> tuple[Layer, ...]:  # noqa: D102
        return self.scene.source.layers(i)

    def counts(self, i: int, layer: Layer, window: Window) -> NDArray[Any]:  # noqa: D102
        return self.scene.source.counts(i, layer, self._shifted(window))

    def only(self, bands: Collection[str]) -> Part:
        """The same with some of the bands."""
        return Part(self.scene.only(bands), self.at)


@dataclass(frozen=True)
class Trial:
    """The masks of some windows, made as in the run: what they take, and what they hide."""

    seconds: float  # processor seconds per Mpx of all dates
    windows: Sequence[Window]
    masks: Sequence[NDArray[np.uint8]]  # (T, h, w) each


def _masked(scene: Scene, targets: Sequence[np.datetime64], mask: str, metres: float, screen: bool) -> Trial:
    bare, windows, masks = _bare(scene), _spread(scene, GLIMPSES), []

    def work(window: Window) -> None:
        part = replace(bare, place=scene.place.at(window), shape=(window.height, window.width), source=Part(bare, window))
        found = detect(part, mask=mask, targets=targets, screen=screen, grow=metres).masks
        assert isinstance(found, np.ndarray)
        masks.append(found)

    seconds = _per_mpx(work, windows)
    return Trial(seconds, windows, masks[1:])  # the first one was to load what it takes


def _bare(scene: Scene) -> Scene:
    return replace(scene, s1_dates=None, s1_orbits=None, masks=None)


def _per_mpx(work: Callable[[Window], object], windows: Sequence[Window]) -> float:
    """Processor seconds of some work per Mpx; once before, for what it must load."""
    work(windows[0])
    start = time.process_time()
    for window in windows:
        work(window)
    return (time.process_time() - start) / sum(w.height * w.width for w in windows) * 1e6


def _read_seconds(scene: Scene) -> float:
    """Processor seconds to read one Mpx of all dates, radar included."""
    return _per_mpx(scene.read, list(_spread(scene, GLIMPSES)))


def _spread(scene: Scene, count: int) -> list[Window]:
    """At most `count` windows, from corner to corner."""
    side = tuple(min(GLIMPSE, n) for n in scene.shape)
    steps = int(count**0.5)
    corners = [sorted({round(k * (n - s) / (steps - 1)) for k in range(steps)}) for n, s in zip(scene.shape, side, strict=True)]
    return [Window(row, col, *side) for row in corners[0] for col in corners[1]]


def _glimpsed(
    scene: Scene, day: np.datetime64, targets: Sequence[np.datetime64], mask: str, metres: float, trial: Trial, nodata: bool
) -> Glimpse:
    """What is hidden on one date (with `nodata` also what was not measured), and how much of it lies at a rim.

    Detected in many windows; what comparing the dates makes of it is seen in the few of the trial.
    """
    bare, i = _bare(scene), scene.index(day)
    chosen = choose(bare, i, mask, set(targets))
    look, pixel = MASKS[chosen.name].looking(bare, i), pixel_metres(scene.place)

    def detected(window: Window) -> NDArray[np.uint8]:
        classes = look(window).classes
        return classes[0] if chosen.final else widen(classes, metres, pixel)[0]

    hiding = HIDING | (np.arange(len(HIDING)) == Cover.NODATA) if nodata else HIDING
    many, few = (_shares([detected(w) for w in at], hiding) for at in (_spread(scene, LOOKS), trial.windows))
    decided = _shares([masks[i] for masks in trial.masks], hiding)
    hidden, rims = np.clip(many + decided - few, 0.0, 1.0)
    return Glimpse(float(hidden), float(rims), chosen.final)


def _shares(parts: Sequence[NDArray[np.uint8]], hiding: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The hidden share of class maps (h, w), and that of cells at rims; `hiding`: by class, which are rebuilt."""
    counted = sum(int(((part != Cover.NODATA) | hiding[part]).sum()) for part in parts)
    hidden = sum(int(hiding[part].sum()) for part in parts)
    rims = sum(_rims(np.asarray(hiding[part]), part != Cover.NODATA) for part in parts)
    return np.array([hidden, rims]) / max(counted, 1)


def _rims(hidden: NDArray[np.bool_], measured: NDArray[np.bool_]) -> int:
    """Pixels of the cells that hold hidden pixels and, within reach, clear ones."""
    near = ndimage.maximum_filter(measured & ~hidden, CELL + 2 * REACH)
    rows, cols = (np.arange(0, n, CELL) for n in hidden.shape)
    touched = np.maximum.reduceat(np.maximum.reduceat(hidden, rows, 0), cols, 1)
    middles = [np.minimum(at + CELL // 2, n - 1) for at, n in zip((rows, cols), hidden.shape, strict=True)]
    return int((touched & near[np.ix_(*middles)]).sum()) * CELL**2
