"""The gallery of synthetic clouds, over a simulated place: true colour, what is hidden, and the cirrus band B10.

python benchmarks/synthetic_clouds.py [--out docs/images/synthetic-clouds.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from unclouded.bands import L1C
from unclouded.datasets import synthetic
from unclouded.datasets.simulated import simulate
from unclouded.sample import Sample

TRUE_COLOUR = [L1C.index(band) for band in ("B04", "B03", "B02")]
CIRRUS = L1C.index("B10")
CLEAR, CLOUDY = 0, 1  # dates of the simulated place


def gallery(seed: int = 4, size: int = 256) -> dict[str, Sample]:
    """One sample per kind of cloud, all over the same ground (date 0); what is copied comes from the cloudy date 1."""
    place = simulate(
        seed=seed, size=(size, size), dates=["2018-06-01", "2018-06-06"], cover=[0.0, 0.45], kinds=[None, "cumulus"],
        level="L1C", climate="temperate", s1=False,
    )  # fmt: skip
    ground, pair = place.sample, place.target(CLOUDY)
    clear = synthetic.perlin(ground, seed=0, cover=0.0, date=CLEAR)
    kinds = ("cumulus", "bank", "cirrus", "overcast")
    covers = {"cumulus": 0.4, "bank": 0.5, "cirrus": 0.7, "overcast": 1.0}
    return {
        "clear ground": clear,
        "perlin": synthetic.perlin(ground, seed=3, cover=0.45, date=CLEAR),
        "copied": synthetic.copied(pair),
        "cut_out": synthetic.cut_out(ground, [ground], seed=2, cover=0.3, date=CLEAR),
        "transplanted": synthetic.transplanted(ground, seed=2, date=CLEAR),
        **{f"physical, {k}": synthetic.physical(ground, seed=5, kind=k, cover=covers[k], date=CLEAR) for k in kinds},
    }


def draw(samples: dict[str, Sample], path: Path) -> None:
    """Three rows of panels as a PNG."""
    figure = Figure(figsize=(1.7 * len(samples), 5.5), layout="constrained")
    grid = figure.subplots(3, len(samples), squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for column, (name, sample) in zip(grid.T, samples.items(), strict=True):
        image, cloud = sample.s2[sample.target_index], sample.cloud[sample.target_index]
        column[0].imshow(np.moveaxis(np.clip(image[TRUE_COLOUR] / 0.35, 0, 1) ** 0.8, 0, -1))
        column[1].imshow(cloud, cmap="gray", vmin=0, vmax=1)
        column[2].imshow(image[CIRRUS], cmap="gray", vmin=0, vmax=0.05)
        column[0].set_title(name, fontsize=9)
    for axes, label in zip(grid[:, 0], ("true colour", "cloud (the true mask)", "B10, 0 to 0.05"), strict=True):
        axes.set_ylabel(label, fontsize=9)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/synthetic-clouds.png"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(gallery(), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
