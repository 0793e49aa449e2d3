"""A real training proof: a small DSen2-CR on 15 real SEN12MS-CR triplets, judged on regions it has not seen.

python benchmarks/training.py [--data FOLDER] [--work FOLDER] [--steps N] [--arms sar,no-sar] [--folds N]

Triplets are grouped by (likely) region, groups are dealt to folds, and every triplet is restored once by the network of the
fold that did not see its group. Training adds synthetic clouds over the clear images; the arm without radar also has 20 pairs.
Compared with: the cloudy image itself, harmonic inpainting of the masked pixels, and the default engine on the single date.
Scores over all pixels, clipped to [0, 1], mean over images; and the CPU seconds that training took.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from unclouded.bands import L1C
from unclouded.datasets import synthetic
from unclouded.datasets.pack import pack
from unclouded.datasets.patches import read_s1, read_s2
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.masks import MASKS
from unclouded.sample import HIDING, Place, Sample, as_days
from unclouded.training.begin import load_run
from unclouded.training.run import train
from unclouded.training.validate import restored, scores

GROUPS = (  # ids of (likely) one region, and the folds they are dealt to
    ((316, 581, 746), (1302,)),
    ((5254, 5278, 5349), (2266,)),
    ((6553, 6780), (3968,), (6317,)),
    ((7264, 7657), (2729,)),
)
SMALL = (
    "model.set.features=32", "model.set.blocks=4", "data.crop=48", "train.batch=4", "train.rate=1e-3", "train.clip=1.0",
    "data.validation=0", "train.save_every=100000", "train.schedule.kind=halve", "train.schedule.every=15",
)  # fmt: skip
SYNTHETIC = 3  # variants of every clear image under physical clouds


def triplet(folder: Path) -> Sample:
    """One real triplet; what is hidden is the detector's opinion (meraner2020)."""
    cloudy, _ = read_s2(folder / "s2_cloudy.tif", L1C, L1C)
    clear, _ = read_s2(folder / "s2_clear.tif", L1C, L1C)
    radar, _ = read_s1(folder / "s1.tif")
    day = as_days(["2018-07-01"])
    sample = Sample(
        place=Place(id=folder.name, bands=L1C, level="L1C"), s2=cloudy.values[None], s2_valid=cloudy.valid[None], s2_dates=day,
        s1=radar.values[None], s1_valid=radar.valid[None], s1_dates=day, target=clear.values, target_valid=clear.valid,
        target_date=day[0], target_index=0,
    )  # fmt: skip
    hidden = HIDING[MASKS["meraner2020"].detect(sample).classes].astype(np.float32)
    return replace(sample, cloud=hidden)


def with_clouds(sample: Sample, seed: int) -> Sample:
    """Its clear image under physical clouds, in counts that a pack can hold."""
    cover = float(np.random.default_rng(seed).uniform(0.1, 0.8))
    made = synthetic.physical(sample, seed=seed, cover=cover, latitude=30.0)
    return replace(made, s2=np.clip(made.s2, 1e-4, 3), target=np.clip(made.target, 0, 3))


def without_radar(sample: Sample) -> Sample:
    return replace(sample, s1=None, s1_valid=None, s1_dates=None)


def inpainted(sample: Sample) -> np.ndarray:
    """Hidden pixels of the cloudy image by Laplace's equation from their rim; the image's mean where all is hidden."""
    hidden = sample.hidden()
    image = sample.s2[0].copy()
    if not hidden.any():
        return image
    if hidden.all():
        return np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape).astype(np.float32)
    number = np.full(hidden.shape, -1)
    number[hidden] = np.arange(hidden.sum())
    rows, cols, values, right = [], [], [], np.zeros((hidden.sum(), len(image)))
    degree = np.zeros(hidden.sum())
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        at = np.stack(np.nonzero(hidden))
        near = at.copy()
        near[axis] += step
        inside = (near[axis] >= 0) & (near[axis] < hidden.shape[axis])
        mine, there = number[tuple(at[:, inside])], near[:, inside]
        other = number[tuple(there)]
        degree[mine] += 1
        unknown = other >= 0
        rows.append(mine[unknown])
        cols.append(other[unknown])
        values.append(-np.ones(unknown.sum()))
        np.add.at(right, mine[~unknown], image[:, there[0, ~unknown], there[1, ~unknown]].T)
    each = np.arange(len(degree))
    matrix = coo_matrix(
        (np.concatenate([*values, degree]), (np.concatenate([*rows, each]), np.concatenate([*cols, each])))
    ).tocsc()
    image[:, hidden] = splu(matrix).solve(right).T
    return image.astype(np.float32)


def default_engine(sample: Sample) -> np.ndarray:
    """The default engine on the single date with radar; observed pixels are kept."""
    from unclouded.models import load
    from unclouded.sample import Batch
    from unclouded.scenes.scene import Scene

    hidden = sample.hidden()
    if not hidden.any():
        return sample.s2[0]
    scene = Scene.of(replace(sample, target=None, target_valid=None))
    remover = load("scene").adapt(scene, sample.s2_dates[0])
    made = remover(Batch.stack([scene.read(target=sample.s2_dates[0])])).s2[0].numpy()
    return np.where(hidden & np.isfinite(made).all(0), made, sample.s2[0])


def trained(arm: str, seen: Sequence[Sample], work: Path, steps: int) -> Callable[[Sample], np.ndarray]:
    """The network of one arm and fold."""
    change = without_radar if arm == "no-sar" else (lambda sample: sample)
    items = [change(replace(s, cloud=None)) for s in seen]
    pack(items, work / "pack")
    name = "dsen2cr-carl" if arm == "sar" else "dsen2cr-carl-no-sar"
    run = train(name, work / "pack", work / "run", overrides=[*SMALL, f"train.steps={steps}"])
    remover = load_run(run.folder)
    return lambda sample: restored(remover, change(sample))


def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted.add_argument("--data", type=Path, default=Path(os.environ.get("UNCLOUDED_DATA", "../shared/data")))
    wanted.add_argument("--work", type=Path, default=Path("runs/training-proof"))
    wanted.add_argument("--steps", type=int, default=600)
    wanted.add_argument("--arms", default="sar,no-sar")
    wanted.add_argument("--folds", type=int, default=len(GROUPS))
    options = wanted.parse_args()
    triplets = {i: triplet(options.data / "sen12mscr" / str(i)) for fold in GROUPS for group in fold for i in group}
    folds = [[i for group in fold for i in group] for fold in GROUPS][: options.folds]
    judged = [triplets[i] for fold in folds for i in fold]
    table = {}
    peers = {"cloudy image": lambda s: s.s2[0], "harmonic inpainting": inpainted, "default engine": default_engine}
    for name, method in peers.items():
        table[name] = scores(judged, [method(sample) for sample in judged])
        print(name, table[name], flush=True)
    for arm in options.arms.split(","):
        images, begun, wall = [], time.process_time(), time.monotonic()
        for n, fold in enumerate(folds):
            others = [sample for i, sample in triplets.items() if i not in fold]
            seen = others + [with_clouds(s, 1000 * k + j) for j, s in enumerate(others) for k in range(SYNTHETIC)]
            if arm == "no-sar":
                source = SEN12MSCR(options.data / "sen12mscr_pairs", split=None, s1=False)
                seen += [source[k] for k in range(len(source))]
            work = options.work / f"{arm}-{n}"
            shutil.rmtree(work, ignore_errors=True)
            restore = trained(arm, seen, work, options.steps)
            images += [restore(triplets[i]) for i in fold]
        table[f"dsen2cr small, {arm}"] = scores(judged, images)
        spent = {"cpu_seconds": time.process_time() - begun, "wall_seconds": time.monotonic() - wall}
        print(arm, table[f"dsen2cr small, {arm}"], spent, flush=True)
        table[f"dsen2cr small, {arm}"] |= spent
    print(json.dumps({"triplets": len(judged), "steps": options.steps, "scores": table}, indent=2))


if __name__ == "__main__":
    main()
