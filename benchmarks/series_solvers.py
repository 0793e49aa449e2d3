"""The training-free series methods in the order of Ebel et al. 2022, Table VI, on real series under real clouds.

    python benchmarks/series_solvers.py [--data FOLDER] [--cases 6] [--full 2] [--only NAME] [--out FILE.csv] [--speed]
    python benchmarks/series.py --solvers [the same]

The cases are those of protocol.py: clear dates of a real series under the transplanted real cloud of another date. Every method
sees the same series; a refused pixel takes the value of linear interpolation, and the share of such pixels is told. "as
published" methods do not get the cloud mask. Seconds are processor seconds of one thread. `--speed` times 20 iterations of
internal learning on 5 x 256 x 256 x 13 pixels against a plain float32 loop of the same network (plain_learning.py), in turns.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import protocol  # noqa: E402
import torch  # noqa: E402
from plain_learning import PlainFit  # noqa: E402

from unclouded.models.averages import Average  # noqa: E402
from unclouded.models.averages import Config as AverageConfig  # noqa: E402
from unclouded.models.internal_learning import Config as LearningConfig  # noqa: E402
from unclouded.models.internal_learning import Fit, InternalLearning  # noqa: E402
from unclouded.models.needs import CloudRemover  # noqa: E402
from unclouded.models.nmf import NMF  # noqa: E402
from unclouded.models.nmf import Config as NMFConfig  # noqa: E402
from unclouded.models.online_tensor import Config as TensorConfig  # noqa: E402
from unclouded.models.online_tensor import OnlineTensor  # noqa: E402
from unclouded.models.rpca import Config as RPCAConfig  # noqa: E402
from unclouded.models.rpca import RobustPCA  # noqa: E402
from unclouded.models.scene_solver import Cube  # noqa: E402
from unclouded.sample import Batch  # noqa: E402

FAST = {"passes": 4, "iterations": 50, "widths": (16, 32, 64)}
KEY = ("place", "target", "cover", "hole", "method")
COLUMNS = ("rmse", "psnr", "ssim", "sam", "seconds", "refused")


class Method(NamedTuple):
    """A row: its name, how to make it, and whether it needs radar."""

    name: str
    make: Callable[[], CloudRemover]
    radar: bool = False


def methods() -> list[Method]:
    """All rows: Table VI from top to bottom, ours with the mask below each, then the simple ones."""
    rows: list[Method] = []
    for mask in (False, True):
        kind = "with mask" if mask else "as published"
        rows += [
            Method(
                f"RPCP, {kind}", lambda m=mask: RobustPCA(RPCAConfig(method="riemannian", mask=m, sparse=0.2 if m else 0.5))
            ),
            Method(f"principal component pursuit, {kind}", lambda m=mask: RobustPCA(RPCAConfig(mask=m, centre=m))),
            Method(f"NMF incremental, {kind}", lambda m=mask: NMF(NMFConfig(method="incremental", mask=m))),
            Method(f"NMF Lee-Seung, {kind}", lambda m=mask: NMF(NMFConfig(mask=m))),
            Method(f"NMF Manhattan, {kind}", lambda m=mask: NMF(NMFConfig(method="manhattan", mask=m, iterations=30))),
            Method(f"online tensor, {kind}", lambda m=mask: OnlineTensor(TensorConfig(mask=m))),
        ]
    return [
        *rows,
        Method("online tensor of dates, with mask", lambda: OnlineTensor(TensorConfig(modes=("dates",), rank=3, passes=10))),
        Method("internal learning, noise, fast", lambda: InternalLearning(LearningConfig(drive="noise", **FAST))),
        Method("internal learning, S1, fast", lambda: InternalLearning(LearningConfig(drive="s1", **FAST)), radar=True),
        Method("least cloudy", lambda: Average(AverageConfig(rule="least-cloudy", days=0))),
        Method("mosaicing", lambda: Average(AverageConfig(rule="mosaic", days=100_000, never=0.5))),
        Method("linear", lambda: Average(AverageConfig(rule="linear", days=0))),
    ]


def full_setting() -> list[Method]:
    """Internal learning as published: 20 passes of 100 iterations (it may stop before)."""
    return [
        Method("internal learning, noise, full", lambda: InternalLearning(LearningConfig(drive="noise"))),
        Method("internal learning, S1, full", lambda: InternalLearning(LearningConfig(drive="s1")), radar=True),
    ]


def run(rows: list[Method], case: protocol.Case, done: set[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """Case, method and scores, one by one; without what is `done`."""
    batch = Batch.stack([case.sample])
    fallback = Average(AverageConfig(rule="linear", days=0))(batch).s2[0].numpy()
    about = {"place": case.place, "target": str(case.target), "cover": str(case.cover), "hole": str(case.hole)}
    for row in rows:
        if (row.radar and case.sample.s1 is None) or (*about.values(), row.name) in done:
            continue
        start = time.process_time()
        guess = row.make()(batch).s2[0].numpy()
        seconds = time.process_time() - start
        refused = np.isnan(guess) & case.scored
        scores = protocol.score(case, np.nan_to_num(np.where(np.isnan(guess), fallback, guess), nan=0.2), None)
        share = float(refused.sum() / case.scored.sum() / len(guess))
        yield about | {"method": row.name} | {c: scores[c] for c in COLUMNS[:4]} | {"seconds": seconds, "refused": share}


def spread(cases: list[protocol.Case], n: int) -> list[protocol.Case]:
    """n of the cases, evenly spread."""
    return [cases[round(i)] for i in np.linspace(0, len(cases) - 1, min(n, len(cases)))]


def append(path: Path, row: dict[str, Any]) -> None:
    """A line more; the first one with the names before it."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def written(path: Path | None) -> list[dict[str, Any]]:
    """The lines of a file, if there is one."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def report(rows: list[dict[str, Any]]) -> None:
    """Means per place and method, best first, as a table in Markdown."""
    for place in dict.fromkeys(row["place"] for row in rows):
        mine: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            if row["place"] == place:
                mine[row["method"]].append(row)
        means = {name: [float(np.mean([float(r[c]) for r in found])) for c in COLUMNS] for name, found in mine.items()}
        print(f"\n| {place} | cases | RMSE | PSNR (dB) | SSIM | SAM | CPU s | refused |\n|---|---|---|---|---|---|---|---|")
        for name in sorted(means, key=lambda name: means[name][0]):
            rmse, psnr, ssim, sam, seconds, refused = means[name]
            numbers = f"{rmse:.4f} | {psnr:.2f} | {ssim:.3f} | {sam:.2f}° | {seconds:.1f} | {refused:.1%}"
            print(f"| {name} | {len(mine[name])} | {numbers} |")


def speed(iterations: int = 20) -> float:
    """Processor seconds per iteration of a plain float32 loop over those of `Fit.step`: medians of iterations in turns."""
    rng = np.random.default_rng(0)
    cube = Cube(
        x=rng.random((5, 13, 256, 256)).astype(np.float32), valid=np.ones((5, 256, 256), bool),
        clear=rng.random((5, 256, 256)) > 0.3, days=np.arange(5) * 5,
        s1=rng.uniform(-20, -5, (5, 2, 256, 256)).astype(np.float32), s1_valid=np.ones((5, 256, 256), bool),
    )  # fmt: skip
    fit = Fit(cube, LearningConfig())
    plain = PlainFit(fit)
    steps = {"as it runs here": lambda: fit.step(slice(0, 5)), "plain float32": plain.step}
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(iterations + 1):
        outputs = []
        for name, step in steps.items():
            start = time.process_time()  # of the processor: other work on the machine does not count
            outputs.append(step())
            seconds[name].append(time.process_time() - start)
    medians = [float(np.median(each[1:])) for each in seconds.values()]  # the first one warms up
    for name, median in zip(seconds, medians, strict=True):
        print(f"{name}: {median:.3f} CPU s per iteration of 5 x 256 x 256 x 13, bfloat16 {fit.half}")
    losses = [float(((o - fit.truth) * fit.learn).square().sum() / fit.learn.sum() / 13) for o in outputs]
    print(f"loss after {iterations} iterations: {losses[0]:.6f}, plain {losses[1]:.6f}")
    return medians[1] / medians[0]


def main(arguments: list[str] | None = None) -> None:
    """See the module."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parse.add_argument("--places", nargs="+", default=["T1", "T3"])
    parse.add_argument("--cases", type=int, default=6, help="per place")
    parse.add_argument("--full", type=int, default=0, help="cases of the first place at the full setting of internal learning")
    parse.add_argument("--only", default="", help="methods whose name contains this")
    parse.add_argument("--out", type=Path, help="a CSV file, one line per case and method; what it has is not run again")
    parse.add_argument("--speed", action="store_true")
    asked = parse.parse_args(arguments)
    if asked.speed:
        print(f"ratio over 20 iterations: {speed():.2f}")
        return
    torch.manual_seed(0)
    rows = written(asked.out)
    done = {tuple(row[c] for c in KEY) for row in rows}
    places = [spread(list(protocol.cases(s, full=False)), asked.cases) for s in protocol.places(asked.data, asked.places)]
    for slow in (False, True):  # what takes long comes last
        for n, cases in enumerate(places):
            for k, case in enumerate(cases):
                chosen = methods() + (full_setting() if n == 0 and k < asked.full else [])
                for row in run([m for m in chosen if asked.only in m.name and ("learning" in m.name) == slow], case, done):
                    rows.append(row)
                    print(row["place"], row["method"], *(f"{c} {row[c]:.4f}" for c in COLUMNS), flush=True)
                    if asked.out:
                        append(asked.out, row)
    report(rows)


if __name__ == "__main__":
    main()
