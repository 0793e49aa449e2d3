"""What a process holds of memory when a network of the published size restores one tile: weights and activations.

`python benchmarks/activations.py [NAME ...] [--dates N ...]` prints MiB per network and number of dates: the peak of a process
that loads weights and restores one tile of the network's own side, less that of one that only makes the same batch.
The columns `held` and `held_per_date` of unclouded/models/zoo.py have the results. One thread, Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from unclouded.models import weights, zoo
from unclouded.sample import Batch, Place, Sample, as_days


def tile(name: str, dates: int) -> Batch:
    """One tile of a series, with as many radar dates as the network has a use for."""
    needs = zoo.needs_of(name)
    bands, side, rng = needs.bands or (), needs.tile or 256, np.random.default_rng(0)
    days = as_days([np.datetime64("2020-01-01") + 5 * n for n in range(dates)])
    s1 = None if needs.sar == "unused" else rng.uniform(-25, -5, (dates, 2, side, side)).astype(np.float32)
    sample = Sample(
        place=Place(id="tile", bands=bands, level=needs.levels[0]),
        s2=rng.random((dates, len(bands), side, side), np.float32), s2_valid=np.ones((dates, side, side), bool), s2_dates=days,
        s1=s1, s1_valid=None if s1 is None else np.ones((dates, side, side), bool), s1_dates=None if s1 is None else days,
        cloud=np.zeros((dates, side, side), np.float32), target_date=days[dates // 2], target_index=dates // 2,
    )  # fmt: skip
    return Batch.stack([sample])


def peak() -> float:
    """MiB of this process at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def child(step: str, name: str, dates: int, file: Path) -> None:
    """One step in this process: write weights, make the batch only, or restore it."""
    torch.set_num_threads(1)
    if step == "write":
        weights.save(file, name, zoo.network_class(name)[0](zoo.published_config(name)))
        return
    batch = tile(name, dates)
    if step == "restore":
        weights.load(file)(batch)
    print(peak())


def measured(name: str, dates: int, file: Path) -> float:
    """MiB beyond the batch."""

    def run(step: str) -> float:
        command = [sys.executable, __file__, name, "--step", step, "--dates", str(dates), "--file", str(file)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout or 0)

    if not file.exists():
        run("write")
    return run("restore") - run("batch")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME", default=list(zoo.NETWORKS))
    options.add_argument("--dates", type=int, nargs="+", default=[3, 12])
    options.add_argument("--step", choices=("write", "batch", "restore"), help=argparse.SUPPRESS)
    options.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.step:
        child(chosen.step, chosen.names[0], chosen.dates[0], chosen.file)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.names:
            file = Path(folder) / f"{name}.safetensors"
            found = [f"{measured(name, dates, file):6.0f}" for dates in chosen.dates]
            print(f"{name:22s} {zoo.size(name).parameters * 4 / 2**20:5.0f} MiB of weights, held {' '.join(found)}", flush=True)
            file.unlink()


if __name__ == "__main__":
    main()
