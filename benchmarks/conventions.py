"""How far conventions alone move a score: two baselines on real images under every preset, as one table and as reports.

`python benchmarks/conventions.py [--data ../shared/data] [--out FOLDER]`. The data are triplets of SEN12MS-CR (a folder per
image with s2_cloudy.tif, s2_clear.tif, s1.tif), pairs in the official tree, and a series of SEN12MS-CR-TS.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from unclouded.bands import L1C
from unclouded.evaluation.evaluate import evaluate
from unclouded.evaluation.presets import PRESETS, Preset
from unclouded.evaluation.protocols import Transplants, clear_and_cloudy
from unclouded.evaluation.scoring import classify
from unclouded.metrics.pixel import Mae, Psnr
from unclouded.metrics.spectral import Sam, SamImage, SamOfMeanCosine
from unclouded.metrics.structural import Ssim
from unclouded.raster import open_raster, read
from unclouded.sample import HIDING, Place, Sample

GROUPS = {
    "316": "A",
    "581": "A",
    "746": "A",
    "5254": "B",
    "5278": "B",
    "5349": "B",
    "6553": "C",
    "6780": "C",
    "7264": "D",
    "7657": "D",
}  # fmt: skip - images of one region, by index and look
NO_DATE = np.datetime64("2018-01-01", "D")  # the files of these patches carry none
KINDS = (("PSNR", (Psnr,)), ("SSIM", (Ssim,)), ("SAM", (Sam, SamImage, SamOfMeanCosine)), ("MAE", (Mae,)))


def reflectance(path: Path):
    """(13, H, W) of a SEN12MS-CR file: counts / 10000."""
    with open_raster(path) as dataset:
        return read(dataset, range(1, 14)).astype(np.float32) / np.float32(10_000)


def decibel(path: Path):
    """(1, 2, H, W) VV and VH."""
    with open_raster(path) as dataset:
        return read(dataset, (1, 2)).astype(np.float32)[None]


def pair_of(name: str, cloudy: Path, clear: Path, radar: Path | None) -> Sample:
    """One cloudy image with the clear one of another date as its target."""
    s2, target = reflectance(cloudy), reflectance(clear)
    seen = np.ones(s2.shape[1:], bool)
    s1 = None if radar is None else decibel(radar)
    return Sample(
        place=Place(id=name, bands=L1C, level="L1C"), s2=s2[None], s2_valid=seen[None], s2_dates=np.array([NO_DATE]),
        s1=s1, s1_valid=None if s1 is None else seen[None], s1_dates=None if s1 is None else np.array([NO_DATE]),
        target=target, target_valid=seen, target_date=NO_DATE, target_index=0,
    )  # fmt: skip


def triplets(data: Path) -> list[Sample]:
    """Every real pair there is, most with radar."""
    found = []
    for folder in sorted((data / "sen12mscr").iterdir(), key=lambda f: int(f.name)):
        name = f"{GROUPS.get(folder.name, folder.name)}_p{folder.name}"
        found.append(pair_of(name, folder / "s2_cloudy.tif", folder / "s2_clear.tif", folder / "s1.tif"))
    for root in ("sen12mscr_official_layout", "sen12mscr_pairs"):
        for cloudy in sorted((data / root).glob("*_s2_cloudy/*/*.tif")):
            clear = Path(str(cloudy).replace("s2_cloudy", "s2"))
            radar = Path(str(cloudy).replace("s2_cloudy", "s1"))
            found.append(pair_of(clear.stem.replace("_s2_", "_"), cloudy, clear, radar if radar.exists() else None))
    return found


def series(data: Path) -> Sample:
    """The thirty dates of SEN12MS-CR-TS ROIs2017/146, patch 0, clouds by meraner2020."""
    paths = sorted((data / "sen12mscrts").glob("ROIs2017/146/S2/*/*.tif"), key=lambda p: int(p.parent.name))
    s2 = np.stack([reflectance(p) for p in paths])
    dates = np.array([np.datetime64(p.stem.split("_")[5], "D") for p in paths])
    seen = np.ones((len(s2), *s2.shape[2:]), bool)
    sample = Sample(
        place=Place(id="ROIs2017_146_p0", bands=L1C, level="L1C"), s2=s2, s2_valid=seen, s2_dates=dates,
        target_date=dates[0], target_index=0,
    )  # fmt: skip
    return replace(sample, cloud=HIDING[classify(sample, "meraner2020")[1]].astype(np.float32))


def numbers(preset: Preset, rows: dict) -> list[str]:
    """PSNR, SSIM, SAM and MAE of all pixels, as the preset has them."""
    found = []
    for _, kinds in KINDS:
        row = next((r for r in preset.rows if isinstance(r.metric, kinds) and r.area == "all" and r.against == "target"), None)
        found.append("" if row is None else f"{rows[row.name]['value']:.4f} {row.unit}".strip())
    return found


def table(title: str, models: list[str], samples, mask: str, out: Path) -> None:
    """Print one table: every preset on the same images and the same predictions."""
    print(f"\n{title}\n\n| model | preset | PSNR | SSIM | SAM | MAE |\n|---|---|---|---|---|---|")
    lines = []
    for preset in PRESETS.values():
        told = evaluate(
            list(models), samples, out=out / preset.name, preset_name=preset.name, mask=mask, draws=200,
            report=preset.name == "unclouded-v1",
        ).told  # fmt: skip
        for n, model in enumerate(models):
            cells = " | ".join(numbers(preset, told["models"][model]["rows"]))
            lines.append((n, f"| {model} | {preset.name} | {cells} |"))
    print("\n".join(line for _, line in sorted(lines, key=lambda pair: pair[0])))


def main() -> None:
    """Print the tables; write a results folder per preset and two reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("UNCLOUDED_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("out/conventions"))
    parser.add_argument(
        "--race", nargs="*", default=["least-cloudy", "mosaic", "linear"], help="models of the report over time"
    )
    asked = parser.parse_args()
    samples = triplets(asked.data)
    table(f"{len(samples)} real pairs, clouds by meraner2020", ["identity", "mosaicing"], samples, "meraner2020", asked.out)
    place = series(asked.data)
    race = Transplants(place, clear_and_cloudy(place))
    table(
        f"{len(race)} clear dates under the clouds of other dates", ["mosaicing", "linear"], race, "given", asked.out / "series"
    )
    evaluate(list(asked.race), race, out=asked.out / "race", mask="given")
    print(f"\nreports: {asked.out}/unclouded-v1/report.html, {asked.out}/race/report.html")


if __name__ == "__main__":
    main()
