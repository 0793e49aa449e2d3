"""How fast images are scored: 13 x 256 x 256 under a preset, the cost of models left out.

`python benchmarks/evaluation.py [--images 1000] [--jobs 2] [--preset NAME]`. Where others use the machine too, look at the
processor time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from unclouded.bands import L1C
from unclouded.evaluation.evaluate import Contender, Run, _work
from unclouded.evaluation.presets import PRESETS, preset
from unclouded.sample import Place, Sample
from unclouded.workers import one_thread


@dataclass(frozen=True)
class Made:
    """Images with clouds, made on the spot from a few hundred kilobytes of noise: the i-th is always the same."""

    count: int
    side: int = 256

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """One sample; cheap, so that scoring is what is timed."""
        rng = np.random.default_rng(index % 16)
        target = rng.random((13, self.side, self.side), dtype=np.float32) * np.float32(0.4)
        cloud = np.zeros((1, self.side, self.side), np.float32)
        cloud[0, : int(self.side * rng.random())] = 1
        day = np.datetime64("2020-06-01", "D")
        return Sample(
            place=Place(id=f"ROIs1158_spring_{index % 10}_p{index}", bands=L1C, level="L1C"),
            s2=np.where(cloud[:, None] > 0, np.float32(0.8), target + np.float32(0.01))[:1], s2_valid=cloud >= 0,
            s2_dates=np.array([day]), cloud=cloud, target=target, target_valid=cloud[0] >= 0, target_date=day, target_index=0,
        )  # fmt: skip


def main() -> None:
    """Print images per second for every preset that takes the sample's own cloud."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--preset", action="append", choices=sorted(PRESETS))
    asked = parser.parse_args()
    print(f"{asked.images} images of 13 x 256 x 256, {asked.jobs} processes, the identity as the model")
    for name in asked.preset or ["unclouded-v1"]:
        run = Run(Made(asked.images), preset(name), "given", (Contender("identity"),))
        used = processor_seconds(run, min(asked.images, 50))
        start = time.perf_counter()
        count = sum(len(lines) for lines in _work(run, [(i, ["identity"]) for i in range(asked.images)], asked.jobs))
        seconds = time.perf_counter() - start
        print(
            f"{name:24s} {len(run.preset.rows):3d} rows  {count / seconds:6.1f} images/s by the clock (start included); "
            f"{used:.3f} s of processor time each, {asked.jobs / used:.1f} images/s on {asked.jobs} free cores"
        )


def processor_seconds(run: Run, images: int) -> float:
    """Processor time per image, in this process and one thread: what the clock would show on a machine of one's own."""
    one_thread(64)
    run.one(0, ["identity"])
    start = time.process_time()
    for index in range(images):
        run.one(index, ["identity"])
    return (time.process_time() - start) / images


if __name__ == "__main__":
    main()
