"""Processor seconds from path to a float32 Sample: a plain rasterio loop, reading in place, reading a pack; one run.

Then the index: seconds to list so many fake patches (empty files), and to open it again from its cache.

python benchmarks/loading.py [ROOT_OF_SEN12MSCR] [--repeat 20] [--patches 10000]     (without a root: simulated triplets)
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

from unclouded.bands import L1C
from unclouded.datasets.index import open_index
from unclouded.datasets.offline import write_sen12mscr
from unclouded.datasets.pack import Packed, pack
from unclouded.datasets.sen12mscr import KINDS, SEN12MSCR, Patch, found
from unclouded.datasets.split import regions
from unclouded.sample import Place, Sample


def plain(data: SEN12MSCR, i: int) -> Sample:
    """What one would write in ten minutes: three opens, three reads, one division."""
    arrays = {}
    for kind in KINDS:
        with rasterio.open(data.root / data.patches[i].path(kind)) as file:  # noqa: TID251 - the thing to compare with
            arrays[kind] = file.read().astype(np.float32)
    ones = np.ones((1, *arrays["s1"].shape[1:]), bool)
    day = np.array(["2018-07-01"], "datetime64[D]")
    return Sample(
        place=Place(id=str(i), bands=L1C, level="L1C"), s2=arrays["s2_cloudy"][None] / np.float32(1e4), s2_valid=ones,
        s2_dates=day, s1=arrays["s1"][None], s1_valid=ones, s1_dates=day, target=arrays["s2"] / np.float32(1e4),
    )  # fmt: skip


def seconds(read, count: int, repeat: int) -> float:
    """The least processor seconds per sample of several rounds: neighbours on the machine count less."""
    rounds = []
    for _ in range(repeat):
        start = time.process_time()
        for i in range(count):
            read(i)
        rounds.append((time.process_time() - start) / count)
    return min(rounds)


def loading(root: Path, repeat: int) -> None:
    """Print the three ways to a sample."""
    data = SEN12MSCR(root, split=None)
    with tempfile.TemporaryDirectory() as folder:
        packed: Packed = pack(data, Path(folder) / "pack")
        times = {
            "plain rasterio": seconds(lambda i: plain(data, i), len(data), repeat),
            "in place": seconds(data.__getitem__, len(data), repeat),
            "packed": seconds(packed.__getitem__, len(data), repeat),
        }
    print(f"{len(data)} triplets of {packed[0].shape}, processor time per sample")
    for name, each in times.items():
        print(f"{name:16s} {1e3 * each:8.2f} ms   {1 / each:8.0f} samples/s   {times['plain rasterio'] / each:6.1f} x")


def indexing(count: int) -> None:
    """Print how long it takes to list a root of `count` patches (three files each), and to open it again."""
    rois = sorted(regions("sen12mscr", "train"))
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "root", Path(folder) / "cache"
        for n in range(count):
            patch = Patch(rois[n % len(rois)], n)
            for kind in KINDS:
                path = root / patch.path(kind)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        for what in ("built", "loaded"):
            start = time.perf_counter()
            patches = len(found(open_index(root, 2, cache=cache)))
            print(f"index of {patches} patches {what} in {time.perf_counter() - start:.2f} s")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, nargs="?")
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--patches", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.root is None:
            write_sen12mscr(Path(folder), [sorted(regions("sen12mscr", "test"))[0]], patches=2)
        loading(options.root or Path(folder), options.repeat)
    indexing(options.patches)


if __name__ == "__main__":
    main()
