"""Speed and memory of the published networks at 256 x 256 px, and what fast arithmetic costs in quality.

`python benchmarks/networks.py [DATA] [--threads N] [--all]`. DATA: the folder of real samples (default $UNCLOUDED_DATA) for the
dB difference. Seconds are processor seconds, the least of a few rounds, so that neighbours on the machine count less; the
ratios are what to look at. `--all`: a smoke run of every network of the table. With a CUDA device its figures follow.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from unclouded.bands import L1C
from unclouded.models import zoo
from unclouded.models.single_date import Frame, SingleDate

SIDE = 256
ROUNDS = 3
FAST_AT_LEAST = {True: 1.8, False: 1.1}  # with bfloat16 hardware, without
DECIBEL_AT_MOST = 0.01
SHARE_AT_LEAST = 0.6  # of DSen2-CR's GFLOP/s
MEMORY_AT_MOST = 2048  # MiB, GLF-CR


def published(name: str) -> SingleDate:
    kind, _ = zoo.network_class(name)
    return kind(zoo.published_config(name))


def seconds(run: Callable[[], object]) -> float:
    run()
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        rounds.append(time.process_time() - start)
    return min(rounds)


def rate(name: str, remover: SingleDate, frame: Frame) -> tuple[float, float]:
    """Processor seconds and GFLOP/s of one patch."""
    with torch.no_grad(), remover._arithmetic(frame.s2.device):
        taken = seconds(lambda: remover.restore(frame))
    return taken, 2 * zoo.size(name, SIDE).gmac / taken


def dsen2cr() -> float:
    """Plain against fast; returns the plain GFLOP/s."""
    remover = published("dsen2cr")
    frame = remover.example(SIDE)
    plain, flops = rate("dsen2cr", remover, frame)
    fast, fast_flops = rate("dsen2cr", remover.fast(), frame)
    least = FAST_AT_LEAST[remover.half]
    print(f"dsen2cr   plain fp32      {plain:7.2f} s  {flops:6.0f} GFLOP/s")
    print(f"dsen2cr   fast (bf16 {'yes' if remover.half else 'no '}) {fast:7.2f} s  {fast_flops:6.0f} GFLOP/s")
    print(f"          ratio {plain / fast:.2f} (at least {least}): {verdict(plain / fast >= least)}")
    return flops


def glfcr(flops: float) -> None:
    name = "glfcr-as-published"
    remover = published(name)
    taken, own = rate(name, remover, remover.example(SIDE))
    print(f"glfcr     plain fp32      {taken:7.2f} s  {own:6.0f} GFLOP/s")
    share = own / flops
    print(f"          share of dsen2cr's rate {share:.2f} (at least {SHARE_AT_LEAST}): {verdict(share >= SHARE_AT_LEAST)}")
    for form in ("glfcr-as-published", "glfcr"):
        command = [sys.executable, __file__, "--memory", form]
        peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"          {form}: peak {peak} MiB (at most {MEMORY_AT_MOST}): {verdict(peak <= MEMORY_AT_MOST)}")


def memory(name: str) -> int:
    """MiB of this process after one forward pass, everything counted."""
    remover = published(name)
    with torch.no_grad():
        remover.restore(remover.example(SIDE))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def triplets(folder: Path, count: int) -> list[tuple[Frame, torch.Tensor]]:
    import rasterio

    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    found = []
    for place in sorted(p for p in (folder / "sen12mscr").iterdir() if p.is_dir())[:count]:
        arrays = {}
        for kind in ("s1", "cloudy", "clear"):
            (path,) = [p for p in place.iterdir() if p.suffix == ".tif" and kind in p.stem]
            with rasterio.open(path) as file:  # noqa: TID251 - a benchmark on the developers' own samples
                arrays[kind] = torch.from_numpy(file.read().astype(np.float32))[None]
        frame = Frame(s2=arrays["cloudy"] / 1e4, s1=arrays["s1"])
        found.append((frame, arrays["clear"] / 1e4))
    return found


def quality(folder: Path) -> None:
    """PSNR to the truth, exact against fast. Untrained weights, the last layer scaled so that the correction is 0.05 large."""
    exact, quick = published("dsen2cr"), published("dsen2cr")
    assert exact.needs.bands == L1C
    samples = triplets(folder, 3)
    with torch.no_grad():
        frame = samples[0][0]
        change = (exact.restore(frame) - frame.s2.clamp(0, 1)).square().mean().sqrt()
        for remover in (exact, quick):
            remover.network.model[-1].weight *= 0.05 / change
        quick.fast()
        worst = 0.0
        for frame, truth in samples:
            one = psnr(exact.restore(frame), truth)
            with quick._arithmetic(frame.s2.device):
                two = psnr(quick.restore(frame), truth)
            worst = max(worst, abs(one - two))
            print(f"          {one:.4f} dB exact, {two:.4f} dB fast")
    print(f"          largest difference {worst:.4f} dB (at most {DECIBEL_AT_MOST}): {verdict(worst <= DECIBEL_AT_MOST)}")


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * torch.log10((image.clamp(0, 1) - truth.clamp(0, 1)).square().mean()))


def verdict(good: bool) -> str:
    return "met" if good else "NOT MET"


def smoke() -> None:
    for name in zoo.SINGLE_DATE:
        remover = published(name)
        with torch.no_grad():
            start = time.process_time()
            out = remover.restore(remover.example(SIDE))
        size = zoo.size(name, SIDE)
        finite = "finite" if bool(torch.isfinite(out).all()) else "NOT FINITE"
        print(
            f"{name:22s} {size.parameters / 1e6:6.2f} M {size.gmac:7.0f} GMAC {time.process_time() - start:7.2f} s  {finite}",
            flush=True,
        )


def cuda(batch: int, peak_tflops: float) -> None:
    """Images per second, peak memory and share of the card's bf16 peak."""
    device = torch.device("cuda")
    for name in ("dsen2cr", "glfcr-as-published"):
        remover = published(name)
        remover.network.to(device)
        remover.fast()
        one = remover.example(SIDE)
        frame = Frame(s2=one.s2.expand(batch, -1, -1, -1).to(device), s1=one.radar.expand(batch, -1, -1, -1).to(device))
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad(), remover._arithmetic(device):
            for _ in range(3):
                remover.restore(frame)
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(10):
                remover.restore(frame)
            torch.cuda.synchronize()
        per_second = 10 * batch / (time.perf_counter() - start)
        tflops = 2 * zoo.size(name, SIDE).gmac * per_second / 1e3
        print(
            f"{name:20s} cuda {per_second:8.1f} images/s, peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB, "
            f"{tflops:.0f} TFLOP/s = {tflops / peak_tflops:.2f} of the bf16 peak ({torch.cuda.get_device_name()})"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="?", type=Path, default=os.environ.get("UNCLOUDED_DATA"))
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--all", action="store_true", help="a smoke run of every network")
    options.add_argument("--memory", metavar="NAME", help="print the peak MiB of one network and end")
    options.add_argument("--batch", type=int, default=8, help="images at once on a CUDA device")
    options.add_argument(
        "--peak-tflops", type=float, default=989.0, help="dense bf16 peak of the CUDA device (H100, H200: 989)"
    )
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.memory:
        print(memory(chosen.memory))
        return
    glfcr(dsen2cr())
    if chosen.data:
        quality(Path(chosen.data))
    if chosen.all:
        smoke()
    if torch.cuda.is_available():
        cuda(chosen.batch, chosen.peak_tflops)


if __name__ == "__main__":
    main()
