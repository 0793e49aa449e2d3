"""The examples of a report: some images as pictures, with their errors, the spectrum of a pixel and the error of every band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import BY_NAME
from unclouded.evaluation import charts
from unclouded.evaluation.results import Results, headline
from unclouded.evaluation.scoring import Case, prepare
from unclouded.metrics.areas import Areas
from unclouded.metrics.average import values
from unclouded.metrics.pair import Pair
from unclouded.metrics.pixel import NormalisedRmse
from unclouded.products.preview import composite, heat
from unclouded.products.report import data_uri

if TYPE_CHECKING:
    from unclouded.evaluation.evaluate import Run

Image = NDArray[np.float32]
GAMMA = 0.7
ATMOSPHERE = ("B01", "B09", "B10")  # the bands at 60 m (Meraner 2020, Fig. 12)
SIDE = 1024  # pixels: larger pictures are thinned out


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image as pictures: its id, why it is shown, the input, the truth, every model's prediction and its error."""

    place: str
    why: str
    cover: float
    given: str  # data URIs
    target: str
    mask: str
    predictions: dict[str, tuple[str, str, str]]  # model -> prediction, error map, the headline number
    spectra: str  # SVG
    bands: str  # SVG, normalised RMSE by band
    coarse: dict[str, list[tuple[str, str]]]  # band at 60 m -> (what, picture): input, truth, models; for scenes
    top: float  # upper end of the error maps


def examples(run: Run, results: Results) -> list[Example]:
    """The best, the middle and the worst image of the first model that has any, predicted again by every model."""
    first = next(model for model, lines in results.lines.items() if lines)
    row = results.preset.row(headline(results))
    lines = results.lines[first]
    scores = values(row.metric, results.states(first, row))
    known = [k for k in np.argsort(scores, kind="stable") if np.isfinite(scores[k])]
    if not known:
        return []
    low, middle, high = known[0], known[len(known) // 2], known[-1]
    best, worst = (high, low) if row.better == "higher" else (low, high)
    chosen = dict.fromkeys((best, middle, worst))
    why = {worst: "worst", middle: "median", best: "best"}
    return [_example(run, results, lines[k].index, f"{why[k]} {row.name} of {first}") for k in chosen]


def _example(run: Run, results: Results, index: int, why: str) -> Example:
    case = prepare(run.preset, run.samples[index], run.mask)
    bands, target = case.sample.place.bands, case.target
    known = target if case.sample.target_valid is None else np.where(case.sample.target_valid, target, np.float32(np.nan))
    given = np.where(case.areas.measured, case.given, np.float32(np.nan))
    rgb = list(composite(bands))
    low, high = _stretch(known[rgb])
    found: dict[str, Image] = {}
    for contender in run.contenders:
        if any(line.index == index for line in results.lines[contender.name]):
            found[contender.name] = run.restored(contender, index, case)[0]
    errors = {name: _mean_error(image, known) for name, image in found.items()}
    each = np.concatenate([e[np.isfinite(e)].ravel() for e in errors.values()])
    top = max(0.02, float(np.ceil(np.percentile(each, 95) * 50) / 50)) if each.size else 0.02
    row = results.preset.row(headline(results))
    shown = {
        name: (_picture(image[rgb], low, high), _error_picture(errors[name], top), _number(results, name, index, row.name))
        for name, image in found.items()
    }
    return Example(
        place=case.sample.place.id, why=why, cover=case.areas.cover, given=_picture(given[rgb], low, high),
        target=_picture(known[rgb], low, high), mask=_mask_picture(case.areas),
        predictions=shown, spectra=_spectra(bands, given, known, found), bands=_by_band(case, known, found),
        coarse=_coarse(bands, given, known, found) if hasattr(run.samples, "parts") else {}, top=top,
    )  # fmt: skip


def _mean_error(image: Image, target: Image) -> Image:
    """(H, W) mean absolute error over the bands that were restored; NaN where none was, or the truth is not known."""
    restored = [not np.isnan(band).all() for band in image]
    if not any(restored):
        return np.full(image.shape[1:], np.nan, np.float32)
    return np.asarray(np.abs(image[restored] - target[restored]).mean(0))


def _number(results: Results, model: str, index: int, row: str) -> str:
    line = next(x for x in results.lines[model] if x.index == index)
    assert line.scores is not None
    return f"{results.preset.row(row).metric.value(np.array(line.scores.sums[row])):.4g}"


def _stretch(layers: Image) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """(C,) the reflectance that is shown black, and white."""
    known = layers.reshape(len(layers), -1)
    if not np.isfinite(known).any():
        return np.zeros(len(layers)), np.full(len(layers), 0.3)
    low, high = np.nanpercentile(known, (1, 99), axis=1)
    return low, np.maximum(high, low + 0.02)


def _thin(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """(..., H, W) with every n-th pixel only, so that no side is longer than SIDE."""
    step = max(1, -(-max(image.shape[-2:]) // SIDE))
    return image[..., ::step, ::step]


def _picture(layers: Image, low: NDArray[np.floating], high: NDArray[np.floating]) -> str:
    """Three layers as red, green, blue, or one as grey; clear where there is no value."""
    image = np.asarray(_thin(layers), np.float32)
    seen = np.isfinite(image).all(0)
    unit = np.clip((np.where(seen, image, 0) - low[:, None, None]) / (high - low)[:, None, None], 0, 1) ** GAMMA
    colours = np.rint(255 * unit).astype(np.uint8)
    return data_uri(np.dstack([*(colours if len(colours) == 3 else [colours[0]] * 3), np.where(seen, 255, 0).astype(np.uint8)]))


def _error_picture(error: NDArray[np.floating], top: float) -> str:
    thin = np.asarray(_thin(error), np.float32)
    seen = np.isfinite(thin)
    colours = heat(np.clip(np.where(seen, thin, 0) / top, 0, 1))
    return data_uri(np.dstack([colours, np.where(seen, 255, 0).astype(np.uint8)]))


def _mask_picture(areas: Areas) -> str:
    colours = np.array([(0, 0, 0, 0), (126, 158, 110, 255), (236, 238, 240, 255), (74, 84, 110, 255)], np.uint8)
    kinds = np.where(areas.shadow, 3, np.where(areas.hidden, 2, np.where(areas.measured, 1, 0)))
    return data_uri(colours[np.asarray(_thin(kinds), np.intp)])


def _spectra(bands: Sequence[str], given: Image, target: Image, found: Mapping[str, Image]) -> str:
    """Reflectance of the known pixel nearest to the centre, by wavelength: input, truth, every model (Meraner 2020 Fig. 10)."""
    order = _by_wavelength(bands)
    row, col = _central(np.asarray(np.isfinite(target).all(0)))
    images = {"truth": target, "cloudy input": given, **found}
    series = {name: [float(image[k, row, col]) for k in order] for name, image in images.items()}
    where = f"pixel in row {row}, column {col}"
    return charts.lines(series, [bands[k] for k in order], up="reflectance", along=where, zero=True, turned=True)


def _central(known: NDArray[np.bool_]) -> tuple[int, int]:
    """Row and column of the known pixel nearest to the centre; the centre where none is known."""
    height, width = known.shape
    rows, cols = np.nonzero(known)
    if not len(rows):
        return height // 2, width // 2
    nearest = int(np.hypot(rows - height // 2, cols - width // 2).argmin())
    return int(rows[nearest]), int(cols[nearest])


def _by_band(case: Case, target: Image, found: Mapping[str, Image]) -> str:
    """Normalised RMSE of every band of this image (Meraner 2020 Fig. 10)."""
    bands, metric = case.sample.place.bands, NormalisedRmse()
    order = _by_wavelength(bands)
    series: dict[str, list[float | None]] = {}
    for name, image in found.items():
        restored = [k for k in order if not np.isnan(image[k]).all()]
        if restored:
            each = metric.table(metric.state(Pair(image[restored], target[restored])))
            by_band = dict(zip(restored, each.tolist(), strict=True))
            series[name] = [100 * by_band[k] if np.isfinite(by_band.get(k, np.nan)) else None for k in order]
    labels = [bands[k].removeprefix("B") for k in order]
    return charts.bars(series, labels, up="nRMSE of the band's range, %", along="band")


def _coarse(bands: Sequence[str], given: Image, target: Image, found: Mapping[str, Image]) -> dict[str, list[tuple[str, str]]]:
    """The bands that see the atmosphere, input, truth and models on one scale (Meraner 2020 Fig. 12)."""
    shown: dict[str, list[tuple[str, str]]] = {}
    for band in (b for b in ATMOSPHERE if b in bands):
        k = [bands.index(band)]
        low, high = _stretch(target[k])
        images = {"cloudy input": given, "truth": target, **found}
        shown[band] = [(name, _picture(image[k], low, high)) for name, image in images.items()]
    return shown


def _by_wavelength(bands: Sequence[str]) -> list[int]:
    return sorted(range(len(bands)), key=lambda k: BY_NAME[bands[k]].nanometres)
