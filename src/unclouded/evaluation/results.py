"""From one line per image to results.json: averages, intervals, groups, bands, calibration, and the comparison of models."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded import __version__
from unclouded.datasets.split import DIGESTS, regions
from unclouded.evaluation.benchmarks import Benchmark
from unclouded.evaluation.bootstrap import holm, interval, paired
from unclouded.evaluation.features import unpacked
from unclouded.evaluation.presets import Preset, Row
from unclouded.evaluation.scoring import Scores
from unclouded.metrics.areas import bin_names, bin_of
from unclouded.metrics.average import POOL_SERIES, average, series_sums, values
from unclouded.metrics.calibration import Spread
from unclouded.metrics.manifold import precision_recall
from unclouded.metrics.pair import SetMetric
from unclouded.metrics.pixel import BandErrors, NormalisedRmse

COVERED, ALMOST_CLEAR, CHANGED = 0.95, 0.05, 0.05


@dataclass(frozen=True, kw_only=True)
class Line:
    """One image under one model: its sums, or why there are none."""

    index: int
    model: str
    scores: Scores | None = None
    seconds: float = 0.0  # of the processor
    failed: str = ""
    variant: str = ""  # the group that a protocol puts the image in
    features: str = ""  # of truth and prediction, packed

    @property
    def text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"  # NaN as Python writes it: this file is read by us alone

    @staticmethod
    def read(text: str) -> Line | None:
        """The line; None for one that was torn."""
        try:
            told = json.loads(text)
            scores = told["scores"] | {"bands": tuple(told["scores"]["bands"])}
            return Line(**(told | {"scores": Scores(**scores)}))
        except (json.JSONDecodeError, TypeError, KeyError):
            return None


@dataclass(frozen=True)
class Set:
    """What holds for a whole run: the protocol that shows the data, the network whose features are compared, the data."""

    protocol: dict[str, Any] | None = None
    features: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)  # see `described`


@dataclass(frozen=True)
class Results:
    """`told` is what results.json says; the rest is for the report."""

    told: dict[str, Any]
    preset: Preset
    lines: dict[str, list[Line]] = field(default_factory=dict)  # by model, those that did not fail

    @property
    def images(self) -> int:
        """How many images have a score from at least one model."""
        return int(self.told["images"])

    def states(self, model: str, row: Row) -> NDArray[np.float64]:
        """(N, K) the sums of a row for every image of a model."""
        return _states(self.lines[model], row)


def aggregate(
    benchmark: Benchmark,
    preset: Preset,
    models: Sequence[str],
    lines: Sequence[Line],
    *,
    draws: int = 1000,
    seed: int = 0,
    of: Set = Set(),
) -> Results:
    """All numbers of a run. Deterministic for given lines and seed."""
    good = {m: [line for line in lines if line.model == m and line.scores is not None] for m in models}
    some = max(good.values(), key=len)
    told = {
        "format": 2,
        "unclouded": __version__,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "benchmark": {"name": benchmark.name, "source": benchmark.source, "notes": list(benchmark.notes),
                      "asks_for": {"dataset": benchmark.dataset, "split": benchmark.split}},
        "data": of.data,
        "preset": preset.name, "preset_digest": preset.digest, "preset_notes": list(preset.notes),
        "split_tables_sha256": dict(DIGESTS), "protocol": of.protocol, "features": of.features,
        "masks": _counts(_scores(line).mask for line in some),
        "images": len(some),
        "bands": list(_scores(some[0]).bands) if some else [],
        "patch_list_sha256": patch_list_digest([_scores(line).place for line in some]),
        "regions": sorted({_scores(line).roi for line in some}),
        "models": {m: _model(preset, good[m], draws, seed) for m in models},
        "paired": _paired(preset, good, draws, seed),
        "published": _published(benchmark),
        "failed": [{"model": line.model, "index": line.index, "why": line.failed} for line in lines if line.failed],
    }  # fmt: skip
    return Results(_plain(told), preset, good)


def headline(results: Results) -> str:
    """The row by which examples are chosen: PSNR where there is one, else the first."""
    names = [row.name for row in results.preset.rows]
    return next((n for n in names if n.lower() == "psnr"), names[0])


def patch_list_digest(places: Sequence[str]) -> str:
    """SHA-256 of the ids in their order, one per line: two results are comparable when it agrees."""
    return hashlib.sha256("\n".join(places).encode()).hexdigest()


def _scores(line: Line) -> Scores:
    assert line.scores is not None
    return line.scores


def _counts(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def _states(lines: Sequence[Line], row: Row) -> NDArray[np.float64]:
    return np.array([_scores(line).sums[row.name] for line in lines], np.float64)


def _units(lines: Sequence[Line], row: Row) -> tuple[NDArray[np.float64], list[str], int]:
    """What is averaged for a row: sums (M, K) of images or of series, the region of each, and how they are pooled on."""
    states, regions = _states(lines, row), [_scores(line).roi for line in lines]
    if row.pooled != POOL_SERIES:
        return states, regions, row.pooled
    sums, first = series_sums(states, [series_of(_scores(line).place) for line in lines])
    return sums, [regions[k] for k in first], 1


def series_of(place: str) -> str:
    """The series that an image belongs to by its id: what stands before an '@'."""
    return place.split("@")[0]


def _model(preset: Preset, lines: Sequence[Line], draws: int, seed: int) -> dict[str, Any]:
    if not lines:
        return {"rows": {}, "images": 0}
    scores = [_scores(line) for line in lines]
    rows = {}
    for row in preset.rows:
        states, regions, pooled = _units(lines, row)
        mean = average(row.metric, states, pooled)
        low, high = interval(row.metric, states, regions, pooled=pooled, draws=draws, seed=seed)
        rows[row.name] = {"value": mean.value, "count": mean.images, "low": low, "high": high, "unit": row.unit,
                          "better": row.better}  # fmt: skip
    return {
        "images": len(lines),
        "refused": float(np.mean([s.refused for s in scores])),
        "seconds_per_image": float(np.median([line.seconds for line in lines])),
        "rows": rows,
        "manifold": _manifold(preset, lines),
        "by_variant": _variants(preset, lines),
        "by_cover": _groups(preset, lines, lambda x: _cover_bin(preset, _scores(x).cover), bin_names(preset.cover_edges)),
        "by_season": _groups(preset, lines, lambda x: _scores(x).season),
        "by_region": _groups(preset, lines, lambda x: _scores(x).roi),
        "by_leak": _groups(preset, lines, lambda x: leak_of(_scores(x).roi)),
        "by_interval": _groups(preset, lines, _interval),
        "by_case": {name: _rows(preset, [x for x in lines if holds(_scores(x))]) for name, holds in HARD_CASES.items()},
        "bands": _bands(preset, lines),
        "calibration": _calibration(preset, lines),
    }


@cache
def leak_of(roi: str) -> str:
    """What the published loaders did with a test region of SEN12MS-CR; '' for any other region.

    A model trained elsewhere must be told apart on the six that were also trained on and the four that were not.
    """
    tested = {str(r): r for r in regions("sen12mscr", "test")}
    found = tested.get(roi) or tested.get("/".join(roi.rsplit("_", 1)))
    if found is None:
        return ""
    leaked = found in regions("sen12mscr", "train", "as_published_substring")
    return "leaked into training by the published loaders" if leaked else "never in training"


HARD_CASES: dict[str, Callable[[Scores], bool]] = {  # Ebel 2020, appendix D
    "ground changed": lambda s: s.change > CHANGED,  # clear parts of input and target differ
    "almost clear": lambda s: s.cover <= ALMOST_CLEAR,  # where detectors find what is not there
    "fully covered": lambda s: s.cover >= COVERED,
}


NO_FEATURES = "no feature network was given (--features WEIGHTS)"
BY_VARIANT = "the protocol shows every truth in several variants: see each variant"


def _manifold(preset: Preset, lines: Sequence[Line], *, of_variant: bool = False) -> dict[str, Any]:
    """Precision, recall and F1 of the predictions against the truths of a set, in the space of a feature network.

    Every truth counts once, with the first prediction of it.
    """
    if not all(line.features for line in lines):
        return {"not_computed": NO_FEATURES}
    if any(line.variant for line in lines) and not of_variant:
        return {"not_computed": BY_VARIANT}
    both = np.stack([unpacked(line.features) for line in lines])
    _, first = np.unique(both[:, 0], axis=0, return_index=True)
    both = both[np.sort(first)]
    found = precision_recall(both[:, 0], both[:, 1], k=preset.neighbours)
    return {"precision": found.precision, "recall": found.recall, "f1": found.f1, "k": preset.neighbours, "images": len(both)}


def _variants(preset: Preset, lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """The rows of every variant of a protocol, and its precision, recall and F1."""
    found = _groups(preset, lines, lambda x: x.variant)
    for name, rows in found.items():
        manifold = _manifold(preset, [line for line in lines if line.variant == name], of_variant=True)
        rows |= {key: manifold[key] for key in ("precision", "recall", "f1") if key in manifold}
    return found


def _cover_bin(preset: Preset, cover: float) -> str:
    at = bin_of(cover, preset.cover_edges)
    return bin_names(preset.cover_edges)[at] if at >= 0 else ""


def _interval(line: Line) -> str:
    gap = _scores(line).gap
    return "" if gap is None else f"{abs(gap)} days"


def _groups(
    preset: Preset, lines: Sequence[Line], key: Callable[[Line], str], order: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    names = list(order) or sorted({key(line) for line in lines} - {""}, key=_in_order)
    return {name: _rows(preset, [line for line in lines if key(line) == name]) for name in names}


def _in_order(name: str) -> tuple[int, str]:
    """Names that begin with a number by that number, others by the alphabet."""
    number = name.split(" ")[0]
    return (int(number) if number.isdigit() else 0, name)


def _rows(preset: Preset, lines: Sequence[Line]) -> dict[str, Any]:
    found: dict[str, Any] = {"images": len(lines)}
    for row in preset.rows:
        if lines:
            states, _, pooled = _units(lines, row)
            found[row.name] = average(row.metric, states, pooled).value
    return found


def _bands(preset: Preset, lines: Sequence[Line]) -> dict[str, Any]:
    """Per band: bias, MAE, RMSE (pooled) by area, and the normalised RMSE."""
    found: dict[str, Any] = {}
    for row in preset.rows:
        if isinstance(row.metric, BandErrors):
            table = row.metric.table(_states(lines, row).sum(0))
            found[row.area] = dict(zip(("bias", "mae", "rmse"), table.tolist(), strict=True))
        elif isinstance(row.metric, NormalisedRmse):
            found["nrmse"] = row.metric.table(_states(lines, row).sum(0)).tolist()
    return found


def _calibration(preset: Preset, lines: Sequence[Line]) -> dict[str, Any]:
    """Reliability and sparsification curves by area, where the model states a sigma."""
    found: dict[str, Any] = {}
    for row in preset.rows:
        if isinstance(row.metric, Spread):
            sums = _states(lines, row).sum(0)
            if sums.any():
                stated, seen = row.metric.reliability(sums)
                curves = row.metric.sparsification(sums)
                found[row.area] = {
                    "stated": stated.tolist(), "found": seen.tolist(), "median_sigma": row.metric.median_sigma(sums),
                    "removed": curves.removed.tolist(), "by_sigma": curves.by_sigma.tolist(),
                    "by_oracle": curves.by_oracle.tolist(), "ause": curves.ause, "ause_share": curves.ause_share,
                }  # fmt: skip
    return found


def _paired(preset: Preset, good: dict[str, list[Line]], draws: int, seed: int) -> list[dict[str, Any]]:
    """Every two models on every row that is a mean over images or series, p corrected for all pairs of a row (Holm)."""
    found = []
    for row in preset.rows:
        if row.pooled not in (1, POOL_SERIES) or isinstance(row.metric, SetMetric):
            continue
        pairs = []
        for a, b in combinations(good, 2):
            shared = {x.index for x in good[a]} & {x.index for x in good[b]}
            if shared:
                each = [[x for x in good[m] if x.index in shared] for m in (a, b)]
                (first, regions, _), (second, _, _) = (_units(lines, row) for lines in each)
                found_here = paired(values(row.metric, first), values(row.metric, second), regions, seed=seed, draws=draws)
                pairs.append((a, b, found_here))
        for (a, b, d), p in zip(pairs, holm([d.p for _, _, d in pairs]), strict=True):
            found.append({
                "row": row.name, "a": a, "b": b, "difference": d.mean, "low": d.interval.low, "high": d.interval.high,
                "p": d.p, "p_holm": p, "a_larger": d.wins, "images": d.images,
            })  # fmt: skip
    return found


def _published(benchmark: Benchmark) -> list[dict[str, Any]] | str:
    rows = benchmark.published()
    if rows is None:
        return "unavailable"
    return [
        {"method": r.method, "numbers": dict(r.numbers), "mark": benchmark.marks.get(r.method, benchmark.marks.get("any", ""))}
        for r in rows
    ]


def _plain(value: Any) -> Any:
    """JSON proper: what is not finite becomes null (NaN) or a word (inf)."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
