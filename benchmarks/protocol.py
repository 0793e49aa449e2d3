"""The protocol of the series benchmark: real places, honest targets, transplanted clouds, holes in time, scores.

A place is a series of Sentinel-2 dates with their own real clouds. A case takes one of its clear dates as the truth, pastes
the real cloud of another date over it, and takes away the neighbouring dates (the hole). Every remover gets the same Sample.
Simulated places (simulated_places.py) bring clouds and the truth of every date with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simulated_places
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.raster import open_raster
from unclouded.sample import Place, Sample

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Pasted = tuple[NDArray[np.float32], Mask]  # an image under a cloud (C, H, W), and what of it is hidden (H, W)
SQUARE = np.ones((3, 3), bool)
COVERS: tuple[tuple[float, float], ...] = ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.99), (1.0, 1.0))
TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
TWENTY = ("B05", "B06", "B07", "B8A", "B11", "B12")


@dataclass(frozen=True)
class Series:
    """A place over time. Reflectance, not clipped; radar in dB."""

    name: str
    bands: tuple[str, ...]
    level: str
    x: NDArray[np.float32]  # (T, C, H, W)
    clear: Mask  # (T, H, W) by the place's own mask and the multi-temporal screening
    days: NDArray[np.int64]  # (T,) since 1970-01-01
    s1: NDArray[np.float32] | None  # (T1, 2, H, W)
    s1_days: NDArray[np.int64] | None
    targets: int  # how many targets the protocol takes
    holes: tuple[int, ...]  # days without other observations around the target
    stride: int  # every how manieth case of the full grid is run
    s1_orbits: NDArray[np.int16] | None = None  # (T1,) relative orbit, if known
    truth: NDArray[np.float32] | None = None  # (T, C, H, W) the ground on every date, if known; else what is clear is true
    under: Callable[..., Pasted | None] | None = None  # a date under a cloud of its own, else one is transplanted


@dataclass(frozen=True)
class Case:
    """One question: restore `truth` where `scored`, from `sample`."""

    place: str
    target: int
    cover: int  # index in COVERS
    hole: int
    fraction: float
    sample: Sample
    truth: NDArray[np.float32]  # (C, H, W)
    scored: Mask  # (H, W) hidden in the sample and clear in the truth


# ---------------------------------------------------------------------------------------------------------------- places


def places(data: Path, names: list[str]) -> Iterator[Series]:
    """Places by name: the real T1, T3, T4, T20, and the simulated ones. Raises SystemExit for an unknown name."""
    known = (*PLACES, *simulated_places.CLIMATES)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"unknown places {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names:
        yield PLACES[name](data) if name in PLACES else simulated(name)


def simulated(name: str) -> Series:
    """A simulated place: 24 dates five days apart, 10 bands, S1 every six days, 128 x 128 pixels, L2A."""
    return Series(name=name, targets=4, holes=(0, 30), stride=3, **simulated_places.parts(name))  # type: ignore[arg-type]


def belgium(data: Path) -> Series:
    """T1: 118 dates of 10 bands at 10 m, 159 radar dates, 64 x 64 pixels, L2A."""
    folder = data / "worldcereal" / "00002806639B424A"
    return _worldcereal(folder, "T1", TEN)


def belgium_20m(data: Path) -> Series:
    """T20: a neighbouring place of which only the 20 m bands exist, 146 dates, 32 x 32 pixels of 20 m."""
    folder = data / "worldcereal" / "000028085BF08E7E"
    return _worldcereal(folder, "T20", TWENTY)


def _worldcereal(folder: Path, name: str, bands: tuple[str, ...]) -> Series:
    import h5py

    files = {p.name.split("_000")[0]: h5py.File(p) for p in sorted(folder.glob("*.nc"))}
    factor = 2 if "S2_L2A_10m" in files else 1
    layers = {b: f[b][:] for f in files.values() for b in f if b in (*bands, "SCL", "VV", "VH")}
    twice = {b: v if v.shape[1] == 32 * factor else _repeat(v, factor) for b, v in layers.items()}
    counts = np.stack([twice[b] for b in bands], 1)
    optical, radar = (next(f for n, f in files.items() if n.startswith(kind)) for kind in ("S2", "S1"))
    x = (counts / 1e4).astype(np.float32)
    invalid = np.isin(twice["SCL"], (0, 1, 3, 8, 9, 10)) | (counts == 0).any(1)
    clear = ~_each(ndimage.binary_dilation, invalid, SQUARE)
    s1 = np.stack([twice["VV"], twice["VH"]], 1).astype(np.float32) * 1e-4
    series = Series(name, bands, "L2A", x, clear, _days(optical), s1, _days(radar), 12, (0, 30, 60), 4)
    series = _one_a_day(series)
    return replace(series, clear=screened(series, 0.035))


def _one_a_day(series: Series) -> Series:
    """Where two images share a day, the clearer one."""
    best = [max(np.flatnonzero(series.days == day), key=lambda t: series.clear[t].sum()) for day in np.unique(series.days)]
    return replace(series, x=series.x[best], clear=series.clear[best], days=series.days[best])


def _days(file: Any) -> NDArray[np.int64]:
    start = np.datetime64(file["timestamp"].attrs["units"].split("since ")[1].replace(" ", "T"))
    days: NDArray[np.int64] = (start + file["timestamp"][:].astype("timedelta64[s]")).astype("datetime64[D]").astype(np.int64)
    return days


def _repeat(v: NDArray[Any], factor: int) -> NDArray[Any]:
    return v.repeat(factor, -2).repeat(factor, -1)


def europe(data: Path) -> Series:
    """T3: the 30 dates of a SEN12MS-CR-TS patch, L1C, 13 bands, no radar, its central 128 x 128 pixels."""
    from unclouded.bands import L1C

    folder = data / "sen12mscrts" / "ROIs2017" / "146" / "S2"
    files = sorted(folder.glob("*/*.tif"), key=lambda p: int(p.parent.name))
    x = np.stack([_tif(p)[:, 64:192, 64:192] for p in files]).astype(np.float32) / 1e4
    days = np.array([np.datetime64(p.name.split("_")[5]) for p in files]).astype("datetime64[D]").astype(np.int64)
    blue, cirrus = x[:, L1C.index("B02")], x[:, L1C.index("B10")]
    cloud = (blue > np.percentile(blue, 30, axis=0) + 0.045) | (cirrus > 0.006)
    cloud = _each(ndimage.binary_opening, cloud, SQUARE)
    cloud = _each(ndimage.binary_dilation, cloud, SQUARE, iterations=4)
    series = Series("T3", L1C, "L1C", x, ~cloud, days, None, None, 7, (0, 60), 6)
    return replace(series, clear=screened(series, 0.03))


def finland(data: Path) -> Series:
    """T4: twelve monthly dates of a boreal forest, with snow, two radar bands, its central 128 x 128 pixels, L2A."""
    folder = data / "biomassters" / "0060c0a5"
    s2 = np.stack([_tif(folder / f"0060c0a5_S2_{m:02d}.tif")[:, 64:192, 64:192] for m in range(12)])
    s1 = np.stack([_tif(folder / f"0060c0a5_S1_{m:02d}.tif")[:2, 64:192, 64:192] for m in range(12)]).astype(np.float32)
    x = s2[:, :10].astype(np.float32) / 1e4
    cloud = (s2[:, 10] > 40) | (s2[:, :10] == 0).all(1)  # 255, missing, is over 40 too
    clear = ~_each(ndimage.binary_dilation, cloud, SQUARE, iterations=3)
    months = [np.datetime64(f"{2019 + (8 + m) // 12}-{(8 + m) % 12 + 1:02d}-15") for m in range(12)]
    days = np.array(months).astype("datetime64[D]").astype(np.int64)
    return Series("T4", BIOMASSTERS, "L2A", x, clear, days, np.where(s1 < -90, np.nan, s1), days, 5, (0,), 3)


BIOMASSTERS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
PLACES = {"T1": belgium, "T3": europe, "T4": finland, "T20": belgium_20m}


def _tif(path: Path) -> NDArray[Any]:
    with open_raster(path) as file:
        counts: NDArray[Any] = file.read()
    return counts


def _each(operation: Any, masks: Mask, *args: Any, **kwargs: Any) -> Mask:
    return np.stack([operation(m, *args, **kwargs) for m in masks])


def screened(series: Series, excess: float) -> Mask:
    """Clear without the clouds and shadows that the place's own mask missed: each date against the median of +-45 days."""
    index = {b: i for i, b in enumerate(series.bands)}
    bright = "B02" if "B02" in index else None
    dark = [b for b in ("B08", "B8A", "B11") if b in index][-2:] if bright is None else ["B08", "B11"]
    x = np.where(series.clear[:, None], series.x, np.nan)
    keep = series.clear.copy()
    for t, day in enumerate(series.days):
        near = np.abs(series.days - day) <= 45
        middle = _nanmedian(x[near])
        bad = np.ones(keep.shape[1:], bool)
        for b, share in zip(dark, (0.55, 0.6), strict=True):
            bad &= series.x[t, index[b]] < share * middle[index[b]]
        if bright is not None:
            bad |= series.x[t, index[bright]] > middle[index[bright]] + excess
        bad = ndimage.binary_opening(bad & series.clear[t], SQUARE)
        keep[t] &= ~ndimage.binary_dilation(bad, SQUARE, iterations=2)
    return keep


def _nanmedian(x: NDArray[np.float32]) -> NDArray[np.float32]:
    count = np.isfinite(x).sum(0)
    ordered = np.sort(x, axis=0)  # NaN sorts last
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, len(x) - 1)
    middle = (np.take_along_axis(ordered, low[None], 0) + np.take_along_axis(ordered, high[None], 0)) / 2
    return np.where(count > 0, middle[0], np.nan)


# ----------------------------------------------------------------------------------------------------------------- cases


def cases(series: Series, *, full: bool, seed: int = 0) -> Iterator[Case]:
    """The cases of a place: targets x cover bins x holes, every `stride`-th of them unless `full`."""
    rng = np.random.default_rng(seed)
    grid = [(t, c, h) for t in target_dates(series) for c in range(len(COVERS)) for h in series.holes]
    for n, (t, c, h) in enumerate(grid):
        pasted = (series.under or partial(transplant, series))(t, COVERS[c], rng)
        if pasted is not None and (full or n % series.stride == 0):
            yield _case(series, t, c, h, *pasted)


def target_dates(series: Series) -> list[int]:
    """Dates whose truth is known (at least 95 % clear), not the two first or last, evenly spread in time."""
    known = [series.truth is not None or series.clear[t].mean() >= 0.95 for t in range(len(series.days))]
    good = [t for t in range(2, len(series.days) - 2) if known[t]]
    spread = np.linspace(0, len(good) - 1, min(series.targets, len(good)))
    return [good[round(i)] for i in spread]


def transplant(series: Series, t: int, cover: tuple[float, float], rng: np.random.Generator) -> Pasted | None:
    """The target's image under the real cloud of another date (C, H, W), and what is hidden. None: no such cloud exists."""
    truth = series.x[t]
    if cover[0] >= 1:
        return np.full_like(truth, 0.8), np.ones(truth.shape[1:], bool)
    mask, cloudy = _borrowed(series, t, cover, rng)
    if mask is None:
        return None
    alpha = ndimage.gaussian_filter(mask.astype(np.float32), 1)
    hidden = ndimage.binary_dilation(mask, SQUARE) | (alpha > 0.02)
    return (1 - alpha) * truth + alpha * cloudy, hidden


def _borrowed(
    series: Series, t: int, cover: tuple[float, float], rng: np.random.Generator
) -> tuple[Mask | None, NDArray[np.float32]]:
    turn = int(rng.integers(4))
    others = [s for s in range(len(series.days)) if s != t]
    within = [s for s in others if cover[0] <= (~series.clear[s]).mean() < cover[1]]
    if within:
        s = within[int(rng.integers(len(within)))]
        return np.rot90(~series.clear[s], turn), np.rot90(series.x[s], turn, (1, 2))
    for _ in range(2000):  # the union of two real masks
        a, b = (others[int(i)] for i in rng.integers(len(others), size=2))
        both = ~(series.clear[a] & series.clear[b])
        if cover[0] <= both.mean() < cover[1]:
            cloudy = np.where(~series.clear[a], series.x[a], series.x[b])
            return np.rot90(both, turn), np.rot90(cloudy, turn, (1, 2))
    return None, series.x[t]


def _case(series: Series, t: int, c: int, hole: int, image: NDArray[np.float32], hidden: Mask) -> Case:
    keep = np.abs(series.days - series.days[t]) >= hole / 2 + 0.5
    keep[t] = True
    x, clear = series.x.copy(), series.clear.copy()
    known = series.clear[t] if series.truth is None else np.ones_like(hidden)
    x[t], clear[t] = image, known & ~hidden
    sample = Sample(
        place=Place(id=series.name, bands=series.bands, level=series.level),  # type: ignore[arg-type]
        s2=np.nan_to_num(x[keep]), s2_valid=np.ones_like(clear[keep]), s2_dates=series.days[keep].astype("datetime64[D]"),
        cloud=(~clear[keep]).astype(np.float32), **_radar(series),
        target_date=series.days[t].astype("datetime64[D]"), target_index=int(keep[:t].sum()),
    )  # fmt: skip
    truth = series.x[t] if series.truth is None else series.truth[t]
    return Case(series.name, t, c, hole, float(hidden.mean()), sample, truth, hidden & known)


def past_only(case: Case) -> Case:
    """The same question on the day itself: nothing of later dates, optical or radar."""
    sample = case.sample
    t = sample.target_index
    assert t is not None
    given: dict[str, Any] = {name: getattr(sample, name)[: t + 1] for name in ("s2", "s2_valid", "s2_dates", "cloud")}
    if sample.s1_dates is not None:
        until = int((sample.s1_dates <= sample.target_date).sum())
        names = ("s1", "s1_valid", "s1_dates") + (("s1_orbits",) if sample.s1_orbits is not None else ())
        given |= {name: getattr(sample, name)[:until] for name in names}
    return replace(case, sample=replace(sample, **given))


def _radar(series: Series) -> dict[str, Any]:
    if series.s1 is None or series.s1_days is None:
        return {}
    valid = np.isfinite(series.s1).all(1) & (series.s1 != 0).all(1)
    days = series.s1_days.astype("datetime64[D]")
    return {"s1": np.nan_to_num(series.s1), "s1_valid": valid, "s1_dates": days, "s1_orbits": series.s1_orbits}


# ---------------------------------------------------------------------------------------------------------------- scores


def score(case: Case, guess: NDArray[np.float32], sigma: NDArray[np.float32] | None) -> dict[str, float]:
    """All the numbers of one case, over the scored pixels: errors in reflectance, SAM in degrees, coverage as shares."""
    at = case.scored
    p, y = np.clip(guess[:, at], 0, 1.5), case.truth[:, at]
    error = p - y
    mse = float((error**2).mean())
    row = {
        "psnr": -10 * np.log10(mse), "rmse": mse**0.5, "mae": float(np.abs(error).mean()),
        "sam": _sam(p, y), "r2": float(np.mean(1 - (error**2).sum(1) / ((y - y.mean(1, keepdims=True)) ** 2).sum(1))),
        "ssim": _ssim(np.where(at, np.clip(guess, 0, 1.5), case.truth), case.truth),
    }  # fmt: skip
    bands = case.sample.place.bands
    if "B04" in bands and "B08" in bands:
        row["ndvi"] = float(np.abs(_ndvi(p, bands) - _ndvi(y, bands)).mean())
    return row if sigma is None else row | _intervals(error, sigma[:, at])


def _intervals(error: Array, sigma: Array) -> dict[str, float]:
    from scipy.stats import norm, spearmanr

    size = np.abs(error)
    row = {f"cov{p}": float((size <= norm.ppf(0.5 + p / 200) * sigma).mean()) for p in (50, 80, 90, 95)}
    z = norm.ppf(0.95)
    row["width_mae"] = float(2 * z * sigma.mean() / size.mean())
    row["spearman"] = float(spearmanr(size.ravel(), sigma.ravel()).statistic) if np.ptp(sigma) > 0 else 0.0
    row["sigma"] = float(sigma.mean())
    return row


def _sam(p: Array, y: Array) -> float:
    cosine = (p * y).sum(0) / np.maximum(np.linalg.norm(p, axis=0) * np.linalg.norm(y, axis=0), 1e-9)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def _ndvi(x: Array, bands: tuple[str, ...]) -> Array:
    nir, red = x[bands.index("B08")], x[bands.index("B04")]
    return (nir - red) / np.maximum(nir + red, 1e-3)


def _ssim(a: Array, b: Array) -> float:
    blur = lambda v: ndimage.gaussian_filter(v, (0, 1.5, 1.5), truncate=3.34)  # noqa: E731 - 11 x 11 window
    ma, mb = blur(a), blur(b)
    va, vb, vab = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * ma * mb + c1) * (2 * vab + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))).mean())
