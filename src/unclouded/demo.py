"""The demo: make a small simulated place (or take real data), remove the clouds of one date, say how good it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unclouded.masks.detect import detect
from unclouded.models import DEFAULT, load
from unclouded.products.product import Product
from unclouded.raster import open_raster
from unclouded.remove import Progress, guess_block, remove_clouds, silent
from unclouded.sample import HIDING
from unclouded.scenes.open import open_scene

if TYPE_CHECKING:
    from unclouded.datasets.simulated import SimulatedPlace

SIZE = (256, 256)
DATES = 12
GROW = 60.0  # metres: the simulated scene classes miss cloud edges, as Sen2Cor's do
PLAIN = ("linear", "mosaic", "least-cloudy")  # what the result is set beside


def run_demo(
    out: Path,
    *,
    data: str | Path | None = None,
    date: str | None = None,
    model: str | None = None,
    seed: int = 7,
    progress: Progress = silent,
    say: Callable[[str], None] = print,
) -> Product:
    """Restore one date and return its product; on the simulated place the true error is measured and said."""
    name = model or DEFAULT
    if data is not None:
        chosen = date or _half_covered(data)
        say(f"restoring {chosen} of {data} with '{name}'")
        return _one(remove_clouds(data, out, date=chosen, model=name, overwrite=True, progress=progress))
    from unclouded.datasets.simulated import simulate, write_series

    say(f"simulating a place: {SIZE[0]} x {SIZE[1]} px, {DATES} dates, seed {seed}")
    place = simulate(seed=seed, size=SIZE, dates=DATES)
    series = out / "series"
    write_series(place, series)
    hidden = HIDING[place.cover].mean((1, 2))
    inner = np.arange(1, len(hidden) - 1)
    t = int(inner[np.abs(hidden[inner] - 0.5).argmin()])
    chosen = date or str(place.sample.s2_dates[t])
    say(f"restoring {chosen} ({hidden[t]:.0%} hidden) with '{name}'")
    product = _one(
        remove_clouds(series, out, date=chosen, model=name, place="simulated", grow=GROW, overwrite=True, progress=progress)
    )
    for line in _against_truth(place, series, np.datetime64(chosen), product, name):
        say(line)
    return product


def _against_truth(place: SimulatedPlace, series: Path, day: np.datetime64, product: Product, name: str) -> list[str]:
    """The true error of the rebuilt pixels, beside what interpolating, averaging and copying make of the same masks."""
    scene = detect(open_scene(series), targets=[day], grow=GROW)
    t = scene.index(day)
    assert scene.masks is not None
    hidden = HIDING[np.asarray(scene.masks[t])]
    with open_raster(product.clear[0]) as file:
        guesses = {name: file.read() / 10_000}
    guesses |= {other: guess_block(scene, day, scene.window, hidden, load(other).adapt(scene, day)).s2 for other in PLAIN}
    common = hidden & np.all([np.isfinite(guess).all(0) for guess in guesses.values()], axis=0)
    lines = [f"RMSE of {common.sum()} rebuilt pixels against the true ground, reflectance:"]
    return lines + [f"  {key:14s} {_rmse(guess[:, common], place.truth[t][:, common]):.4f}" for key, guess in guesses.items()]


def _one(products: Product | list[Product]) -> Product:
    return products[0] if isinstance(products, list) else products


def _rmse(guess: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean((guess - truth) ** 2)))


def _half_covered(series: str | Path) -> str:
    scene = detect(open_scene(series))
    assert scene.masks is not None
    share = HIDING[np.asarray(scene.masks)].mean((1, 2))
    return str(scene.dates[int(np.abs(share - 0.5).argmin())])
