"""Benchmark of the training-free removers on real series under transplanted clouds (the protocol is in protocol.py).

    python benchmarks/series.py [--data DIR] [--places T1,T3,T4,T20,sim-temperate,...] [--methods scene,linear,...]
                                [--causal] [--quick | --full] [--out DIR]
    python benchmarks/series.py --solvers [...]    the methods of Ebel et al. 2022, Table VI (series_solvers.py --help)

Writes cases.csv (one row per case and method), prints means by place and cover with paired bootstrap differences against the
first method, its lead by hole length, and makes series.html with curves and pictures. `--causal` gives every method only what
was there on the target day. Seconds are processor seconds of one thread, fitting included.
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import protocol  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from protocol import Case  # noqa: E402

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "scene": ("scene", {}),
    "scene-fast": ("scene", {"quality": "fast"}),
    "scene-best": ("scene", {"quality": "best"}),
    "scene-no-radar": ("scene", {"radar": False}),
    "scene-causal": ("scene", {"causal": True}),
    "similar": ("similar", {}),
    "soft-impute": ("soft-impute", {}),
    "soft-impute-radar": ("soft-impute-radar", {}),
    "damped": ("damped", {}),
    "whittaker": ("whittaker", {}),
    "harmonic": ("harmonic", {}),
    "linear": ("linear", {}),
    "mosaic": ("mosaic", {}),
    "median": ("median", {}),
    "nearest": ("nearest", {}),
    "least-cloudy": ("least-cloudy", {}),
}
DEFAULT = ("scene", "linear", "damped", "soft-impute", "mosaic", "similar", "whittaker", "harmonic", "nearest", "least-cloudy")
Row = dict[str, Any]


def main() -> None:
    if "--solvers" in sys.argv:
        import series_solvers

        series_solvers.main([argument for argument in sys.argv[1:] if argument != "--solvers"])
        return
    options = _options()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    methods = options.methods.split(",")
    unknown = [m for m in methods if m not in METHODS]
    if unknown:
        raise SystemExit(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")
    rows: list[Row] = []
    pictures: list[tuple[str, bytes]] = []
    for series in protocol.places(Path(options.data), options.places.split(",")):
        cases = list(protocol.cases(series, full=options.full))[:: 3 if options.quick else 1]
        cases = [protocol.past_only(case) for case in cases] if options.causal else cases
        for n, case in enumerate(cases):
            guesses = {}
            for method in methods:
                row, guesses[method] = run(case, method)
                rows.append(row)
            if n % 9 == 1:
                pictures.append((_caption(case), picture(case, guesses)))
            print(f"{series.name} {n + 1}/{len(cases)}", end="\r", flush=True)
            write_csv(rows, out / "cases.csv")  # a run that is stopped leaves what it has
    tables = [*summaries(rows, methods), by_hole(rows, methods)]
    print("\n".join(tables))
    (out / "series.html").write_text(page(tables, curves(rows, methods), pictures))
    print(f"\n{out / 'cases.csv'}\n{out / 'series.html'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("UNCLOUDED_DATA", "../shared/data")
    parser.add_argument("--data", default=data, help="folder of the real samples (default: %(default)s)")
    parser.add_argument("--places", default="T1,T3,T4,T20")
    parser.add_argument("--methods", default=",".join(DEFAULT), help=f"out of {', '.join(METHODS)}")
    parser.add_argument("--causal", action="store_true", help="earlier dates only, for every method")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="every third case of the standard set")
    size.add_argument("--full", action="store_true", help="every case of the grid")
    parser.add_argument("--out", default="build/series")
    return parser.parse_args()


def run(case: Case, method: str) -> tuple[Row, NDArray[np.float32]]:
    """One case through one remover, as `remove` would call it: adapt to the scene, then fill it."""
    from unclouded.models import load
    from unclouded.sample import Batch
    from unclouded.scenes.scene import Scene

    name, settings = METHODS[method]
    scene = Scene.of(case.sample)
    start = time.process_time()
    found = load(name, settings).adapt(scene, case.sample.target_date)(Batch.stack([case.sample]))
    seconds = time.process_time() - start
    guess = found.s2[0].numpy()
    sigma = None if found.sigma is None else found.sigma[0].numpy()
    # A pixel that a method leaves open counts as the mean of what the date shows, so that no method gains by refusing.
    open_ = np.isnan(guess)
    if open_.any():
        seen = ~case.sample.hidden()
        mean = case.sample.s2[case.sample.target_index][:, seen].mean(1) if seen.any() else np.full(len(guess), 0.2)
        guess = np.where(open_, mean[:, None, None], guess).astype(np.float32)
    row: Row = {
        "place": case.place, "target": str(case.sample.target_date), "cover": case.cover, "hidden": round(case.fraction, 3),
        "hole": case.hole, "method": method,
    }  # fmt: skip
    pixels = guess.shape[1] * guess.shape[2]
    scores = protocol.score(case, guess, sigma)
    return row | scores | {"seconds": seconds, "s_per_Mpx": seconds / pixels * 1e6, "open": float(open_.mean())}, guess


def write_csv(rows: list[Row], path: Path) -> None:
    names = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


# --------------------------------------------------------------------------------------------------------------- tables

BINS: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("20-99 %", lambda r: r["cover"] < 4),
    ("80-99 %", lambda r: r["cover"] == 3),
    ("100 %", lambda r: r["cover"] == 4),
)
COLUMNS = (
    "psnr",
    "rmse",
    "mae",
    "sam",
    "ssim",
    "r2",
    "ndvi",
    "cov50",
    "cov80",
    "cov90",
    "cov95",
    "width_mae",
    "spearman",
    "s_per_Mpx",
)


def summaries(rows: list[Row], methods: list[str]) -> Iterator[str]:
    """One text table per place and cover bin: means, and the first method's lead in dB with its 95 % interval."""
    for place in dict.fromkeys(r["place"] for r in rows):
        for name, within in BINS:
            mine = [r for r in rows if r["place"] == place and within(r)]
            if mine:
                yield _table(f"{place}, cover {name}", mine, methods)


def _table(title: str, rows: list[Row], methods: list[str]) -> str:
    count = sum(r["method"] == methods[0] for r in rows)
    lines = [
        f"\n{title} (n = {count})",
        f"{'method':14s}"
        + "".join(f"{c:>10s}" if len(c) > 7 else f"{c:>8s}" for c in COLUMNS)
        + f"   {methods[0]} minus it, dB",
    ]
    lead = [r["psnr"] for r in rows if r["method"] == methods[0]]
    for method in methods:
        mine = [r for r in rows if r["method"] == method]
        means = [np.mean([r[c] for r in mine if c in r]) if any(c in r for r in mine) else np.nan for c in COLUMNS]
        widths = [10 if len(c) > 7 else 8 for c in COLUMNS]
        cells = (f"{m:{w}.4g}" if np.isfinite(m) else " " * w for m, w in zip(means, widths, strict=True))
        line = f"{method:14s}" + "".join(cells)
        if method != methods[0]:
            line += "   " + difference(np.array(lead) - [r["psnr"] for r in mine], [r["target"] for r in mine])
        lines.append(line)
    return "\n".join(lines)


def by_hole(rows: list[Row], methods: list[str]) -> str:
    """The first method's lead in dB over every other, by place, cover and days without other observations."""
    lines = [
        f"\n{methods[0]} minus each, dB, by hole",
        f"{'place':18s}{'cover':8s}{'hole':>6s}{'n':>4s}  " + "   ".join(methods[1:]),
    ]
    for key in dict.fromkeys((r["place"], r["cover"] == 4, r["hole"]) for r in rows):
        mine = [r for r in rows if (r["place"], r["cover"] == 4, r["hole"]) == key]
        lead = {m: np.array([r["psnr"] for r in mine if r["method"] == m]) for m in methods}
        place, full, hole = key
        gains = "   ".join(f"{(lead[methods[0]] - lead[m]).mean():+{len(m)}.2f}" for m in methods[1:])
        lines.append(f"{place:18s}{'100 %' if full else '20-99 %':8s}{int(hole):6d}{len(lead[methods[0]]):4d}  {gains}")
    return "\n".join(lines)


def difference(gain: NDArray[np.floating], targets: list[str], draws: int = 2000) -> str:
    """Mean paired difference, 95 % bootstrap interval over target dates, share of cases won."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(np.array(targets) == t) for t in dict.fromkeys(targets)]
    means = [
        gain[np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])].mean() for _ in range(draws)
    ]
    low, high = np.percentile(means, (2.5, 97.5))
    return f"{gain.mean():+.2f} [{low:+.2f}, {high:+.2f}] wins {np.mean(gain > 0):.0%}"


# ----------------------------------------------------------------------------------------------------------------- page


def curves(rows: list[Row], methods: list[str]) -> bytes:
    """PSNR by cover bin for each place, one line per method (PNG)."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(r["place"] for r in rows))
    across = min(len(names), 4)
    down = -(-len(names) // across)
    figure = Figure(figsize=(4.2 * across, 3.6 * down), layout="constrained")
    for k, place in enumerate(names):
        axes = figure.add_subplot(down, across, k + 1, title=place, xlabel="cover", ylabel="PSNR, dB")
        for method in methods:
            mine = [r for r in rows if r["place"] == place and r["method"] == method]
            at = sorted({r["cover"] for r in mine})
            axes.plot(at, [np.mean([r["psnr"] for r in mine if r["cover"] == c]) for c in at], marker="o", ms=3, label=method)
        axes.set_xticks(range(5), ["20-40", "40-60", "60-80", "80-99", "100 %"])
        if k == 0:
            axes.legend(fontsize=6)
    return _png(figure)


def picture(case: Case, guesses: dict[str, NDArray[np.float32]]) -> bytes:
    """Input, truth and the first methods' restorations in one stretch (PNG)."""
    from matplotlib.figure import Figure

    bands = case.sample.place.bands
    rgb = [bands.index(b) for b in (("B04", "B03", "B02") if "B02" in bands else ("B11", "B8A", "B05"))]
    top = np.percentile(case.truth[rgb], 99) * 1.1
    seen = np.where(case.sample.hidden(), np.nan, case.sample.s2[case.sample.target_index])
    shown = {"seen": seen, "truth": case.truth} | dict(list(guesses.items())[:5])
    figure = Figure(figsize=(1.9 * len(shown), 2.1), layout="constrained")
    for k, (name, image) in enumerate(shown.items()):
        axes = figure.add_subplot(1, len(shown), k + 1)
        whole = image if name in ("seen", "truth") else np.where(case.sample.hidden(), image, seen)
        axes.imshow(np.nan_to_num(np.clip(whole[rgb] / top, 0, 1), nan=1.0).transpose(1, 2, 0))
        axes.set_title(name, fontsize=8)
        axes.axis("off")
    return _png(figure)


def _caption(case: Case) -> str:
    return f"{case.place}, {case.sample.target_date}: {case.fraction:.0%} hidden, hole of {case.hole} days"


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def page(tables: list[str], chart: bytes, pictures: list[tuple[str, bytes]]) -> str:
    """One HTML file with everything in it."""
    image = lambda png: f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}">'  # noqa: E731
    shots = "".join(f"<h3>{caption}</h3>{image(png)}" for caption, png in pictures)
    style = "body{font:14px sans-serif;margin:2em}pre{font-size:11px;overflow-x:auto}img{max-width:100%}"
    return (
        f"<!doctype html><meta charset=utf-8><title>Series benchmark</title><style>{style}</style><h1>Series benchmark</h1>"
        f"{image(chart)}<h2>Examples</h2>{shots}<h2>Tables</h2><pre>{''.join(t + chr(10) for t in tables)}</pre>"
    )


if __name__ == "__main__":
    main()
