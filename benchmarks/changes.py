"""Planted changes: a field burns, a building stands, a field is cut after the last clear date, under the target's cloud.

    python benchmarks/changes.py [--seeds 8] [--out DIR]

The target is the last date and the two dates before it are overcast: the change falls into these 15 days, so no date shows
it; radar does. For simulated places with known truth this tells how often the 90 % interval misses the changed ground, and
whether sigma is wider there than on unchanged ground under the same cloud. A change is *missed* at a pixel if the truth lies
outside the 90 % interval in the band that changed most.
"""

from __future__ import annotations

import argparse
import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import ndimage  # noqa: E402

from unclouded.datasets.simulated import Event, SimulatedPlace, SimulatedSource, hold, make_world  # noqa: E402
from unclouded.models import load  # noqa: E402
from unclouded.sample import HIDING, Batch, Window  # noqa: E402
from unclouded.scenes.scene import Scene  # noqa: E402

KINDS = ("fire", "building", "harvest")
SIDE, DATES, STEP, RADIUS = 128, 24, 5, 12.0
Z90 = 1.645


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="places per kind of change (default: %(default)s)")
    parser.add_argument("--out", default="build/changes")
    options = parser.parse_args()
    rows = [row for kind in KINDS for seed in range(1, options.seeds + 1) for row in planted(kind, seed)]
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "changes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(table(rows))
    print(f"\n{out / 'changes.csv'}")


def planted(kind: str, seed: int) -> list[dict[str, Any]]:
    """One place, with and without radar: rates on changed and unchanged pixels under the cloud of the last date."""
    quiet = make_world(seed=seed, size=(SIDE, SIDE), dates=DATES, step=STEP, start="2024-03-22")
    quiet = replace(quiet, covers=(*quiet.covers[:-4], 0.0, 1.0, 1.0, 0.6))
    t, whole = DATES - 1, Window(0, 0, SIDE, SIDE)
    before = SimulatedSource(quiet)
    hidden = HIDING[before.cover(t, whole)]
    deep = ndimage.distance_transform_edt(np.pad(hidden, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(deep.argmax()), deep.shape)
    day = quiet.dates[t - 3] + 1  # the day after the last clear date
    event = Event(kind=kind, day=day, row=float(row), col=float(col), radius=RADIUS)  # type: ignore[arg-type]
    place = hold(SimulatedSource(replace(quiet, events=(event,))))
    shift = np.abs(place.truth[t] - before.truth(t, whole))
    changed, calm = hidden & (shift.max(0) > 0.05), hidden & (shift.max(0) < 0.005)
    most = shift.argmax(0)[None]
    found = []
    for radar in (True, False):
        s2, sigma = restored(place, t, radar)
        size = np.abs(s2 - place.truth[t])
        error, half, moved = (np.take_along_axis(v, most, 0)[0] for v in (size, Z90 * sigma, shift))
        found.append({
            "change": kind, "seed": seed, "radar": radar, "pixels": int(changed.sum()), "shift": mean(moved[changed]),
            "error": mean(error[changed]), "missed": mean((error > half)[changed]),
            "outside_elsewhere": mean((size > Z90 * sigma)[:, calm]),
            "sigma_ratio": mean(sigma[:, changed]) / mean(sigma[:, calm]),
        })  # fmt: skip
    return found


def mean(values: NDArray[Any]) -> float:
    """NaN for none."""
    return float(values.mean()) if values.size else float("nan")


def restored(place: SimulatedPlace, t: int, radar: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Reflectance and sigma (C, H, W) of date t by the default model, with the true masks and radar up to the day."""
    sample = place.target(t)
    assert sample.s1_dates is not None
    until = sample.s1_dates <= sample.target_date
    cut: dict[str, Any] = {name: getattr(sample, name)[until] for name in ("s1", "s1_valid", "s1_dates", "s1_orbits")}
    scene = Scene.of(replace(sample, **cut)).with_masks(place.cover)
    day = scene.dates[t]
    found = load("scene", {"radar": radar}).adapt(scene, day)(Batch.stack([scene.read(target=day)]))
    assert found.sigma is not None
    return found.s2[0].numpy(), found.sigma[0].numpy()


def table(rows: list[dict[str, Any]]) -> str:
    """Means over the places where at least 50 pixels changed."""
    names = ("shift", "error", "missed", "outside_elsewhere", "sigma_ratio")
    lines = [f"{'change':10s}{'radar':7s}{'n':>4s}" + "".join(f"{name:>19s}" for name in names)]
    for kind, radar in dict.fromkeys((r["change"], r["radar"]) for r in rows):
        mine = [r for r in rows if (r["change"], r["radar"]) == (kind, radar) and r["pixels"] >= 50]
        means = "".join(f"{np.mean([r[name] for r in mine]):19.3f}" for name in names) if mine else ""
        lines.append(f"{kind:10s}{'yes' if radar else 'no':7s}{len(mine):4d}{means}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
