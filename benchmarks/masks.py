"""Quality and speed of the mask detectors on real samples: the tables of docs/masks.md.

python -m benchmarks.masks [DATA] [--tile] [--picture PNG]

DATA: the folder of samples (default $UNCLOUDED_DATA). --tile: full-tile runs, too. --picture: only the picture of the page.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import L1C
from unclouded.datasets.simulated import simulate
from unclouded.errors import UncloudedError
from unclouded.masks import MASKS
from unclouded.masks.detect import detect
from unclouded.products.legend import COVER_COLOURS
from unclouded.raster import open_raster
from unclouded.sample import HIDING, Cover, Place, Sample, Window
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene

Mask = NDArray[np.bool_]
SINGLE_DATE = ("sixband", "s2cloudless", "meraner2020", "tum")
RISE = 0.03  # reflectance in blue by which a cloudy image must exceed the clear one to count as brightened
DARK = 0.65, 0.75  # shares of near and short-wave infrared that a shaded pixel has against the clear image


def pixels(path: Path) -> NDArray[Any]:
    """All bands (C, H, W) as stored."""
    with open_raster(path) as file:
        return file.read()


def scene_of(s2: NDArray[Any], bands: tuple[str, ...] = L1C, days: NDArray[Any] | None = None, **more: Any) -> Scene:
    """Counts (C, H, W) or (T, C, H, W) of an L1C image (10 000 = 100 %) as a scene; more goes to Sample."""
    images = (s2 if s2.ndim == 4 else s2[None]).astype(np.float32) / np.float32(10_000)
    dates = np.array(["2020-07-01"], "datetime64[D]") if days is None else days
    place = Place(id="sample", bands=bands, level=more.pop("level", "L1C"))
    valid = np.ones((len(images), *images.shape[2:]), bool)
    return Scene.of(Sample(place=place, s2=images, s2_valid=valid, s2_dates=dates, **more))


def cloud_of(classes: NDArray[np.uint8]) -> Mask:
    """Thin and thick cloud."""
    return np.isin(classes, (Cover.THIN, Cover.THICK))


@dataclass
class Score:
    """Counts of agreement; precision, recall, F1 and IoU follow."""

    both: int = 0
    found: int = 0
    there: int = 0

    def add(self, found: Mask, truth: Mask) -> None:
        """Count one image."""
        self.both += int((found & truth).sum())
        self.found += int(found.sum())
        self.there += int(truth.sum())

    def row(self) -> str:
        """Precision, recall, F1, IoU as cells of a table."""
        p, r = self.both / max(self.found, 1), self.both / max(self.there, 1)
        f1 = 2 * self.both / max(self.found + self.there, 1)
        iou = self.both / max(self.found + self.there - self.both, 1)
        return f"{p:.3f} | {r:.3f} | {f1:.3f} | {iou:.3f}"


def reference_scene(data: Path) -> None:
    """The hand-made reference: 512 x 512 pixels, six bands, no place and no date."""
    print("\n## Reference scene (six bands, cloud and shadow drawn by hand)\n")
    scene = scene_of(pixels(data / "csmask" / "s2_toa_dn.tif"), ("B02", "B03", "B04", "B08", "B11", "B12"))
    truth = pixels(data / "csmask" / "reference_mask.tif")[0]
    print("| detector | class | precision | recall | F1 | IoU |\n|---|---|---|---|---|---|")
    for name in SINGLE_DATE:
        try:
            found = detect(scene, mask=name, grow=0).masks[0]
        except UncloudedError as error:
            print(f"| {name} | refused: {error.what} | | | | |")
            continue
        for kind, one, other in (("cloud", cloud_of(found), truth == 4), ("shadow", found == Cover.SHADOW, truth == 0)):
            score = Score()
            score.add(one, other)
            print(f"| {name} | {kind} | {score.row()} |")


def triplets(data: Path) -> Iterator[tuple[str, NDArray[Any], NDArray[Any], Mask | None]]:
    """Name, cloudy and clear counts (13, H, W), and the machine mask of the cloudy image where there is one."""
    for folder in sorted((data / "sen12mscr").iterdir()):
        mask = folder / "mask.tif"
        yield (
            folder.name, pixels(folder / "s2_cloudy.tif"), pixels(folder / "s2_clear.tif"),
            pixels(mask)[0] > 0 if mask.exists() else None,
        )  # fmt: skip
    for cloudy in sorted((data / "sen12mscr_official_layout").glob("*_s2_cloudy/*/*.tif")):
        clear = Path(str(cloudy).replace("_s2_cloudy", "_s2").replace("s2_cloudy_", "s2_"))
        yield cloudy.stem[-8:], pixels(cloudy), pixels(clear), None


def dimmed(before: NDArray[Any], after: NDArray[Any], brighter: Mask) -> Mask:
    """Where infrared fell below `DARK` times what the image as a whole did (the season dims both images differently)."""
    dark = ~brighter
    for band, share in zip((7, 11), DARK, strict=True):
        ratio = before[band] / np.maximum(after[band], 1e-3)
        dark &= ratio < share * np.median(ratio[~brighter]) if (~brighter).any() else False
    return dark


def single_dates(data: Path) -> None:
    """17 cloudy and clear images of the same place: against the given machine masks, and against what changed."""
    print(f"\n## 17 SEN12MS-CR triplets (cloud: blue rises by {RISE}; shadow: infrared below {DARK} of its usual share)\n")
    print("| detector | cloud on clear images | agrees with given mask | cloud P | R | F1 | IoU | shadow P | R | F1 | IoU |")
    print("|---" * 11 + "|")
    cases = list(triplets(data))
    for name in SINGLE_DATE:
        cloud, shade, false, agree, covers = Score(), Score(), [], [], []
        for case, cloudy, clear, given in cases:
            found = detect(scene_of(cloudy), mask=name, grow=0).masks[0]
            false.append(cloud_of(detect(scene_of(clear), mask=name, grow=0).masks[0]).mean())
            if given is not None:
                agree.append((cloud_of(found) == given).mean())
            before, after = (a.astype(np.float32) / 1e4 for a in (cloudy, clear))
            brighter = before[1] - after[1] > RISE
            darker = dimmed(before, after, brighter)
            cloud.add(cloud_of(found), brighter)
            shade.add(found == Cover.SHADOW, darker)
            covers.append(f"{case} {cloud_of(found).mean():.2f}")
        print(f"| {name} | {np.mean(false):.4f} | {np.mean(agree):.3f} | {cloud.row()} | {shade.row()} |")
        print(f"<!-- cover by {name}: {', '.join(covers)} -->")


def series(data: Path) -> None:
    """A real series with SCL: what screening adds date by date, and how the six-band rule compares."""
    print("\n## Series of 12 dates, Belgium (L2A): hidden share by date\n")
    scene = open_scene(data / "demo" / "worldcereal_belgium")
    runs = {
        "SCL": detect(scene, screen=False, grow=0),
        "SCL + 20 m": detect(scene, screen=False),
        "SCL + 20 m + screening": detect(scene),
        "sixband + 20 m": detect(scene, mask="sixband", screen=False),
        "sixband + 20 m + screening": detect(scene, mask="sixband"),
    }
    print("| date | " + " | ".join(runs) + " |\n" + "|---" * (len(runs) + 1) + "|")
    for i, day in enumerate(scene.dates):
        print(f"| {day} | " + " | ".join(f"{HIDING[run.masks[i]].mean():.2f}" for run in runs.values()) + " |")
    print("\n| detector | agrees with SCL | with SCL + 20 m + screening |\n|---|---|---|")
    runs = {"SCL": runs["SCL"], "sixband": detect(scene, mask="sixband", screen=False, grow=0), **runs}
    for name, run in runs.items():
        against = [(HIDING[run.masks] == HIDING[runs[other].masks]).mean() for other in ("SCL", "SCL + 20 m + screening")]
        print(f"| {name} | {against[0]:.3f} | {against[1]:.3f} |")


def simulated() -> None:
    """The simulated place, where cloud and shadow are known exactly: 8 km of cumulus and banks, and series of small scenes."""
    print("\n## Simulated places (truth known; shadow: infrared dimmed to less than 75 %)\n")
    print("| case | detector | cloud P | R | F1 | IoU | shadow P | R | F1 | IoU |\n" + "|---" * 10 + "|")
    large = [
        simulate(seed=3, size=(800, 800), dates=2, cover=[0.35, 0.5], kinds=kind, s1=False) for kind in ("cumulus", "bank")
    ]
    small = [simulate(seed=seed, s1=False) for seed in range(4)]
    runs = (("scl", False), ("sixband", False), ("scl", True), ("sixband", True))
    for case, places in (("8 km, single dates", large), ("2.5 km, 12 dates", small)):
        for mask, screen in runs if places is small else runs[:2]:
            cloud, shade = Score(), Score()
            for one in places:
                found = detect(Scene.of(replace(one.sample, cloud=None)), mask=mask, screen=screen, grow=0).masks
                nir = one.sample.place.bands.index("B08")
                deep = one.sample.s2[:, nir] < 0.75 * one.truth[:, nir]
                cloud.add(cloud_of(found), cloud_of(one.cover))
                shade.add((found == Cover.SHADOW) & (deep | (one.cover != Cover.SHADOW)), (one.cover == Cover.SHADOW) & deep)
            print(f"| {case} | {mask}{' + screening' if screen else ''} | {cloud.row()} | {shade.row()} |")


def seconds(work: Any, repeat: int = 3) -> float:
    """The least processor seconds of several runs."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def speed(data: Path) -> None:
    """Megapixels per second and core, from arrays; real images laid side by side to 1024 x 1024."""
    print("\n## Speed from arrays, one core\n\n| step | Mpx/s |\n|---|---|")
    rows = [cloudy for _, cloudy, _, _ in triplets(data)][:16]
    big = np.concatenate([np.concatenate(rows[i : i + 4], axis=2) for i in range(0, 16, 4)], axis=1)
    sample = scene_of(big).read()
    for name in SINGLE_DATE:
        work = MASKS[name].detect
        part = sample if name != "s2cloudless" else sample.crop(Window(0, 0, 256, 512))
        print(f"| {name} | {part.s2_valid.size / 1e6 / seconds(lambda work=work, part=part: work(part)):.2f} |")
    print(f"| sixband and shadows from geometry | {1.049 / seconds(lambda: detect(scene_of(big), mask='sixband')):.2f} |")
    stack = np.stack([np.roll(big, 97 * t, axis=1) for t in range(12)])
    days = np.datetime64("2020-05-01") + 5 * np.arange(12)
    scl = np.full((12, 1024, 1024), 4, np.uint8)
    bands = ("B02", "B04", "B08", "B11")
    lean = scene_of(stack[:, [L1C.index(b) for b in bands]], bands, days, level="L2A", scl=scl)
    print(f"| SCL, margin and screening, 12 dates (Mpx x dates) | {12 * 1.049 / seconds(lambda: detect(lean), 1):.2f} |")


@dataclass(frozen=True)
class Mosaic:
    """A pixel source of any size: one image repeated for ever, so that a full tile needs no memory."""

    image: NDArray[np.float32]  # (C, h, w)

    bands: tuple[str, ...] = L1C

    def only(self, bands: tuple[str, ...]) -> Mosaic:
        """The same with fewer bands."""
        return Mosaic(self.image[[self.bands.index(band) for band in bands]], bands)

    def s2(self, i: int, window: Window) -> tuple[NDArray[np.float32], Mask]:
        """The repeated image in a window."""
        rows = np.arange(window.row, window.row + window.height) % self.image.shape[1]
        cols = np.arange(window.col, window.col + window.width) % self.image.shape[2]
        return self.image[:, rows][:, :, cols], np.ones((window.height, window.width), bool)

    def scl(self, i: int, window: Window) -> None:
        """None."""

    def given(self, i: int, window: Window) -> None:
        """None."""


def tile() -> None:
    """A full tile of one date, each detector in a fresh process, on one core and on two."""
    print("\n## A full tile (10980 x 10980, one date, reading not decoded)\n")
    print(
        "| detector | workers | wall seconds | processor seconds | Mpx per processor second | peak memory, GiB |\n"
        + "|---" * 6
        + "|"
    )
    for name in SINGLE_DATE:
        for workers in (1, 2):
            subprocess.run([sys.executable, "-m", "benchmarks.masks", "--one", name, "--workers", str(workers)], check=True)


def one_tile(name: str, workers: int) -> None:
    """A row of the table of `tile`: noise with clouds and shadows, which no branch predictor can guess."""
    generator = np.random.default_rng(0)
    image = generator.random((13, 549, 549), dtype=np.float32) * np.float32(0.3)
    image[:, 100:250, 100:260] += np.float32(0.4)
    image[:, 60:210, 70:230] *= np.float32(0.5)
    memory = Scene.of(Sample(
        place=Place(id="tile", bands=L1C, level="L1C"), s2=image[None], s2_valid=np.ones((1, 549, 549), bool),
        s2_dates=np.array(["2020-07-01"], "datetime64[D]"),
    ))  # fmt: skip
    scene = replace(memory, shape=(10_980, 10_980), source=Mosaic(image))
    start, before = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        detect(scene, mask=name, out=Path(folder) / "masks.u8", workers=workers)
    wall, cpu = time.perf_counter() - start, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {name} | {workers} | {wall:.0f} | {cpu:.0f} | {120.56 / cpu:.2f} | {peak:.2f} |", flush=True)


def picture(path: Path) -> None:
    """A simulated place side by side: true colour, the truth, the six-band rule with shadows, and with its margin."""
    from PIL import Image

    one = simulate(seed=3, size=(400, 400), dates=1, cover=0.4, kinds="cumulus", s1=False, origin=(100, 300))
    scene = Scene.of(replace(one.sample, cloud=None))
    palette = np.array([COVER_COLOURS[code] for code in Cover], np.uint8)
    at = [one.sample.place.bands.index(name) for name in ("B04", "B03", "B02")]
    colour = (np.clip(np.moveaxis(one.sample.s2[0, at], 0, -1) / 0.3, 0, 1) ** 0.7 * 255).astype(np.uint8)
    found = [detect(scene, mask="sixband", grow=metres).masks[0] for metres in (0.0, 20.0)]
    panels = [colour, *(palette[classes] for classes in (one.cover[0], *found))]
    gap = np.full((400, 8, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)).save(path, optimize=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=Path(os.environ.get("UNCLOUDED_DATA", "../shared/data")))
    parser.add_argument("--tile", action="store_true", help="also run full tiles (minutes)")
    parser.add_argument("--one", choices=SINGLE_DATE, help="only a full tile by this detector")
    parser.add_argument("--workers", type=int, default=1, help="for --one")
    parser.add_argument("--picture", type=Path, help="only draw the picture of docs/masks.md, from a simulated place")
    options = parser.parse_args()
    if options.one:
        one_tile(options.one, options.workers)
        return
    if options.picture:
        picture(options.picture)
        return
    reference_scene(options.data)
    single_dates(options.data)
    series(options.data)
    simulated()
    speed(options.data)
    if options.tile:
        tile()


if __name__ == "__main__":
    main()
