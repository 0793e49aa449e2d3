"""Whole tiles: seconds per stage, Mpx/s, memory of all processes, and the ratios that say whether the cost is right.

python benchmarks/tile.py --size 2048 [--dates 5] [--workers 2] [--memory 4GiB] [--model scene] [--work DIR] [--ratios]
python benchmarks/tile.py --size 5490 --through

The input is a simulated place (place.py), written as GeoTIFFs below DIR and deleted afterwards (--keep keeps it). With
--ratios also: reading the whole input once, with as many processes, against the run; and 10 % against 100 % hidden, in clouds
of --cloud kilometres (1.92). Each run is a process of its own; its memory is the sum over the process tree (RSS counts shared
pages in every process that touches them, PSS counts them once).
--through copies one clear date through, after the rest with --ratios, else nothing but that: `remove_clouds` (one date, a mask
file without anything hidden, one worker), less its stage of masks, against a plain rasterio copy with COG creation and the same
profile. Both run in turns in one process that has done both once on a small image, so that neither side counts its start; the
least of three rounds counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parent.parent))  # run as a file or with -m
from benchmarks.place import middle, write_place

CLOCK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ROUNDS = 3
CLOUD = 1.92  # km: how far the field is smoothed that the clouds of given masks are cut from


def main() -> None:
    """Write the input, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--dates", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default=None)
    parser.add_argument("--model", default="scene")
    parser.add_argument("--hidden", type=float, default=0.5)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--ratios", action="store_true")
    parser.add_argument("--cloud", type=float, default=CLOUD)
    parser.add_argument("--through", action="store_true")
    parser.add_argument("--series", type=Path, default=None, help="an input that is there, of --size")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # inside: series and output of one measured run
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options, *options.one)))
        return
    work = Path(tempfile.mkdtemp(prefix="tile-", dir=options.work))
    try:
        if options.ratios or not options.through:
            table(options, work)
        if options.through:
            copy_through(options, work)
    finally:
        if not options.keep:
            shutil.rmtree(work)


def table(options: argparse.Namespace, work: Path) -> None:
    """All runs asked for, as lines of text."""
    series = options.series or work / "series"
    if options.series is None:
        seconds = write_place(series, options.size, options.dates, options.hidden)
        print(f"input: {options.size} px, {options.dates} dates, {_bytes(series) / 2**20:.0f} MiB, written in {seconds:.0f} s")
    run = child(options, series, work / "out")
    tell(f"{options.model}, {options.workers} workers", run, options.size)
    if not options.ratios:
        return
    wall, cpu = read_once(series, options.workers)
    print(f"reading the input once: {wall:.1f} s, {cpu:.1f} cpu s; "
          f"the run takes {run['seconds'] / wall:.1f} times as long by the clock, {run['cpu'] / cpu:.1f} by cpu")  # fmt: skip
    found = {}
    for share in (0.0, 0.1, 1.0):
        write_mask(work / "mask.tif", series, share, options.cloud)
        found[share] = child(options, series, work / "out", mask=str(work / "mask.tif"))
        tell(f"{share:.0%} hidden", found[share], options.size)
    for name, few, all_ in (("cpu time of the whole run", *(found[s]["cpu"] for s in (0.1, 1.0))),
                            ("the clock", *(found[s]["seconds"] for s in (0.1, 1.0))),
                            ("cpu time of rebuilding", *(found[s]["stages"]["rebuild"][1] for s in (0.1, 1.0)))):  # fmt: skip
        print(f"10 % against 100 % hidden, by {name}: {few / all_:.0%}")


def read_once(series: Path, workers: int) -> tuple[float, float]:
    """Wall and processor seconds of decoding all rasters of a series, shared among processes that have started before."""
    rasters = sorted(series.rglob("*.tif"), key=lambda path: -path.stat().st_size)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(decoded, [rasters[-1]] * 4 * workers))
        start = time.perf_counter()
        cpu = sum(pool.map(decoded, rasters))
        return time.perf_counter() - start, cpu


def decoded(path: Path) -> float:
    """Processor seconds of decoding a raster with rasterio, a row of its blocks at a time."""
    import rasterio
    from rasterio.windows import Window

    start = time.process_time()
    with rasterio.open(path) as source:  # noqa: TID251 - the thing to compare with
        step = source.block_shapes[0][0]
        for row in range(0, source.height, step):
            source.read(window=Window(0, row, source.width, min(step, source.height - row)))
    return time.process_time() - start


def copy_through(options: argparse.Namespace, work: Path) -> None:
    """A clear date through `remove_clouds` and through rasterio alone."""
    from unclouded.workers import keep_freed

    keep_freed()  # as the command does with one worker; it serves the plain copy as well
    warm = Clear(work / "small", 256)
    warm.ours(), warm.plain()
    clear, least = Clear(work / "whole", options.size), np.full((2, 2), np.inf)
    for _ in range(ROUNDS):
        least = np.minimum(least, [clear.plain(), clear.ours()])
        print(f"    plain {least[0, 1]:.2f}, ours {least[1, 1]:.2f} cpu s, the least so far", flush=True)
    (plain_wall, plain_cpu), (wall, cpu) = least
    print(f"{options.size} px, {clear.bands} bands: plain copy and COG {plain_wall:.1f} s, {plain_cpu:.1f} cpu s; "
          f"copy-through with all its rasters, without the mask {wall:.1f} s, {cpu:.1f} cpu s; "
          f"speed ratio {plain_cpu / cpu:.2f} by cpu, {plain_wall / wall:.2f} by the clock")  # fmt: skip


def now() -> NDArray[np.float64]:
    """Wall and processor seconds of this process."""
    return np.array([time.perf_counter(), time.process_time()])


class Clear:
    """One clear date and its mask, below a folder."""

    def __init__(self, folder: Path, size: int) -> None:
        self.series, self.mask, self.out = folder / "series", folder / "mask.tif", folder / "out"
        write_place(self.series, size, 1, 0.0)
        write_mask(self.mask, self.series, 0.0)

    def ours(self) -> NDArray[np.float64]:
        """Wall and processor seconds of `remove_clouds` in this process, without those of laying the mask over the date."""
        from unclouded import remove
        from unclouded.products.product import Product

        hide, spent = remove.hide, np.zeros(2)

        def uncounted(*args: Any, **kwargs: Any) -> Any:
            begun = now()
            scene = hide(*args, **kwargs)
            spent[:] -= now() - begun
            return scene

        remove.hide = uncounted
        begun = now()
        try:
            product = remove.remove_clouds(self.series, self.out, mask=self.mask, workers=1)
        finally:
            remove.hide = hide
        spent += now() - begun
        assert isinstance(product, Product)
        pixels = product.manifest["pixels"]
        assert pixels["observed"] == sum(pixels.values()), pixels
        shutil.rmtree(self.out)
        return spent

    def plain(self) -> NDArray[np.float64]:
        """The same for reading the date with rasterio and writing it as a COG with the profile of products."""
        begun = now()
        plain_copy(self.series, self.out.with_suffix(".tif"))
        return now() - begun

    @property
    def bands(self) -> int:
        """How many bands are copied."""
        from unclouded.raster import open_raster

        with open_raster(middle(self.series) / "s2.tif") as source:
            return source.count


def tell(what: str, found: dict[str, Any], size: int) -> None:
    """One run."""
    mpx, said = size * size / 1e6, found["said"]["cpu_seconds"]
    print(f"{what}: {found['seconds']:.1f} s, {found['cpu']:.1f} cpu s, {mpx / found['seconds']:.2f} Mpx/s, "
          f"peak RSS {found['rss'] / 2**20:.0f} MiB (PSS {found['pss'] / 2**20:.0f}), hidden {found['hidden']:.1%}, "
          f"said before: {found['said']['minutes'] * 60:.0f} s, {sum(said.values()):.0f} cpu s, "
          f"{found['said']['memory_mib']} MiB, hidden {found['said']['hidden']:.1%}")  # fmt: skip
    for name, (wall, cpu) in found["stages"].items():
        print(f"    {name:10s} {wall:8.1f} s {cpu:8.1f} cpu s {cpu / mpx:7.2f} cpu s/Mpx, said {said[name]:8.1f} cpu s")
    sys.stdout.flush()


def child(options: argparse.Namespace, series: Path, out: Path, **changed: str) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--one", str(series), str(out), "--workers", str(options.workers)]
    command += ["--model", options.model, *(["--memory", options.memory] if options.memory else [])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **_quiet(changed)}, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    shutil.rmtree(out)
    return json.loads(done.stdout.splitlines()[-1])


def _quiet(changed: dict[str, str]) -> dict[str, str]:
    return {"TILE_MASK": changed.get("mask", "auto"), "OMP_NUM_THREADS": "1"}


def measured(options: argparse.Namespace, series: str, out: str) -> dict[str, Any]:
    """Run `remove_clouds` on the middle date and watch its processes."""
    from unclouded import remove
    from unclouded.options import size
    from unclouded.plan import estimate
    from unclouded.products.product import ProductWriter
    from unclouded.remove import chosen_dates, given_masks
    from unclouded.scenes.open import open_scene

    mask, date = os.environ["TILE_MASK"], middle(Path(series)).name
    scene = open_scene(series, given=given_masks(mask, date, all_dates=False))
    how: dict[str, Any] = {"workers": options.workers, "memory": size(options.memory)}
    said = estimate(scene, chosen_dates(scene, date, all_dates=False), options.model, **how)
    watch = Watch()
    stages = {
        "masks": staged(watch, (remove, "hide")),
        "study": staged(watch, (remove, "surveyed"), (remove, "study")),
        "publish": staged(watch, (ProductWriter, "publish")),
    }
    start, cpu = time.perf_counter(), watch.cpu()
    product = remove.remove_clouds(series, out, date=date, model=options.model, mask=mask, **how)
    seconds, cpu = time.perf_counter() - start, watch.cpu() - cpu
    watch.stop()
    spent = {name: (s[0], s[1]) for name, s in stages.items()}
    rest = (seconds - sum(s[0] for s in spent.values()), cpu - sum(s[1] for s in spent.values()))
    assert not isinstance(product, list)
    pixels = product.manifest["pixels"]
    return {
        "seconds": seconds, "cpu": cpu, "rss": watch.rss, "pss": watch.pss, "said": said,
        "hidden": 1 - (pixels["observed"] + pixels["nodata"]) / sum(pixels.values()),
        "stages": {"masks": spent["masks"], "study": spent["study"], "rebuild": rest, "publish": spent["publish"]},
    }  # fmt: skip


def staged(watch: Watch, *functions: tuple[Any, str]) -> list[float]:
    """Replace functions by themselves with a clock; wall and processor seconds of the whole tree gather in the list."""
    spent = [0.0, 0.0]

    def clocked(inner: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start, cpu = time.perf_counter(), watch.cpu()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[0] += time.perf_counter() - start
                spent[1] += watch.cpu() - cpu

        return timed

    for owner, name in functions:
        setattr(owner, name, clocked(getattr(owner, name)))
    return spent


class Watch:
    """Looks at all processes of this tree four times a second: the most memory, and processor time of those that ended too."""

    def __init__(self) -> None:
        self.rss = self.pss = 0
        self._seen: dict[int, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._end.set()
        self._thread.join()

    def cpu(self) -> float:
        """Processor seconds so far."""
        self._note()
        return sum(self._seen.values())

    def _look(self) -> None:
        while not self._end.wait(0.25):
            self._note()

    def _note(self) -> None:
        rss = pss = 0
        for pid in tree(os.getpid()):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self._seen[pid] = (int(fields[11]) + int(fields[12])) / CLOCK
                rss += int(fields[21]) * PAGE
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                pss += next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
            except (OSError, StopIteration, IndexError):
                continue
        self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)


def tree(root: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(path.parent.name), path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(rest[1]), []).append(pid)
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def write_mask(path: Path, series: Path, share: float, cloud: float = CLOUD) -> None:
    """A mask on the grid of the series that hides `share` of it, clustered as clouds are: where a field of noise, smoothed
    over `cloud` km (standard deviation, at 10 m a pixel), is low.
    """
    from scipy.ndimage import gaussian_filter, zoom

    from unclouded.raster import create_raster
    from unclouded.scenes.open import open_scene

    scene = open_scene(series)
    height, width = scene.shape
    coarse = gaussian_filter(np.random.default_rng(0).standard_normal((-(-height // 16), -(-width // 16))), cloud * 6.25)
    hidden = zoom(coarse <= np.quantile(coarse, share) if share else np.zeros_like(coarse, bool), 16, order=0)[:height, :width]
    with create_raster(
        path, height=height, width=width, count=1, dtype="uint8", grid=scene.place.grid, compress="deflate"
    ) as target:
        target.write(hidden[None].astype(np.uint8))


def plain_copy(series: Path, out: Path) -> None:
    """Read the middle date with rasterio and write it as a COG with the profile of products."""
    import rasterio
    from rasterio.shutil import copy

    from unclouded.products.cog import LEVEL

    flat = out.with_suffix(".flat")
    with rasterio.open(middle(series) / "s2.tif") as source:  # noqa: TID251 - the thing to compare with
        profile = {**source.profile, "compress": None, "predictor": 1}
        with rasterio.open(flat, "w", **profile) as target:  # noqa: TID251
            for _, window in source.block_windows(1):
                target.write(source.read(window=window), window=window)
    copy(flat, out, driver="COG", compress="DEFLATE", level=LEVEL, predictor="YES", blocksize=512, bigtiff="IF_SAFER",
         overview_resampling="average")  # fmt: skip


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
