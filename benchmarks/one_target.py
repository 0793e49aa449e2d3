"""One date of a real place restored from all its other dates, as a picture: what was seen, the guess, the truth, error, sigma.

    python benchmarks/one_target.py [--place T1] [--target 6] [--cover 2] [--hole 0] [--out build/one-target.png]

`--target` counts the protocol's targets of the place, `--cover` its cover bins (0: 20-40 %, 1: 40-60, 2: 60-80, 3: 80-99,
4: 100 %). Prints the scores of the default model beside those of straight lines in time.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import protocol  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from protocol import Case  # noqa: E402

from unclouded.models import load  # noqa: E402
from unclouded.sample import NO_AGE, Batch, Prediction  # noqa: E402
from unclouded.scenes.scene import Scene  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("UNCLOUDED_DATA", "../shared/data"))
    parser.add_argument("--place", default="T1")
    parser.add_argument("--target", type=int, default=6)
    parser.add_argument("--cover", type=int, default=2)
    parser.add_argument("--hole", type=int, default=0)
    parser.add_argument("--out", default="build/one-target.png")
    options = parser.parse_args()
    series = next(protocol.places(Path(options.data), [options.place]))
    dates = protocol.target_dates(series)
    asked = (dates[options.target % len(dates)], options.cover, options.hole)
    case = next(c for c in protocol.cases(series, full=True) if (c.target, c.cover, c.hole) == asked)
    found = {name: restored(case, name) for name in ("scene", "linear")}
    print(f"{case.place}, {case.sample.target_date}: {case.fraction:.0%} hidden, {len(case.sample.s2_dates) - 1} other dates")
    for name, prediction in found.items():
        sigma = None if prediction.sigma is None else prediction.sigma[0].numpy()
        scores = protocol.score(case, prediction.s2[0].numpy(), sigma)
        print(f"  {name:8s}" + "  ".join(f"{key} {value:.4g}" for key, value in scores.items()))
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(case, found, out)
    print(out)


def restored(case: Case, name: str) -> Prediction:
    return load(name).adapt(Scene.of(case.sample), case.sample.target_date)(Batch.stack([case.sample]))


def draw(case: Case, found: dict[str, Prediction], out: Path) -> None:
    """Two rows: true colour and what the maps of a product say; near infrared and the straight line beside them."""
    from matplotlib.figure import Figure

    hidden, guess = case.sample.hidden(), found["scene"]
    assert guess.sigma is not None and guess.age is not None
    value, sigma, age = guess.s2[0].numpy(), guess.sigma[0].numpy(), guess.age[0].numpy().astype(float)
    cloudy = case.sample.s2[case.sample.target_index]
    error = np.where(hidden, np.abs(value - case.truth).mean(0), np.nan)
    panels: list[tuple[str, NDArray[Any], dict[str, Any]]] = []
    for bands in rows_of(case.sample.place.bands):
        at = [case.sample.place.bands.index(b) for b in bands]
        top = np.percentile(case.truth[at], 99) * 1.1
        look = lambda x, at=at, top=top: np.clip(x[at] / top, 0, 1).transpose(1, 2, 0)  # noqa: E731
        line = np.where(hidden, found["linear"].s2[0].numpy(), cloudy)
        title = " ".join(bands)
        panels += [(f"as seen, {title}", look(cloudy), {}), ("hidden", np.where(hidden[..., None], 1.0, look(cloudy)), {})]
        panels += [
            ("restored", look(value), {}),
            ("truth", look(case.truth), {}),
            ("straight line", look(np.nan_to_num(line)), {}),
        ]
    limit = float(np.nanpercentile(error, 99))
    maps = [
        ("mean |error|", error, {"vmin": 0, "vmax": limit}),
        ("mean sigma", np.where(hidden, sigma.mean(0), np.nan), {"vmin": 0, "vmax": limit}),
        ("days to nearest date", np.where(hidden & (age < NO_AGE), np.abs(age), np.nan), {"vmin": 0}),
    ]
    figure = Figure(figsize=(13, 8), layout="constrained")
    figure.suptitle(f"{case.place}, {case.sample.target_date}: {case.fraction:.0%} hidden", fontsize=10)
    for k, (title, image, how) in enumerate(panels + maps):
        axes = figure.add_subplot(3, 5, k + 1, title=title)
        shown = axes.imshow(image, interpolation="nearest", **how)
        axes.title.set_fontsize(8)
        axes.axis("off")
        if how:
            figure.colorbar(shown, ax=axes, shrink=0.7)
    figure.savefig(out, dpi=110)


def rows_of(bands: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Two composites that the bands allow."""
    if "B02" in bands:
        return ("B04", "B03", "B02"), ("B11", "B08", "B04")
    return ("B11", "B8A", "B05"), ("B12", "B07", "B06")


if __name__ == "__main__":
    main()
