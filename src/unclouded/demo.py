"""The demo: make a small simulated place (or take real data), remove the clouds of one date, say how good it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from unclouded.models import DEFAULT
from unclouded.products.product import Product
from unclouded.remove import Progress, remove_clouds, silent
from unclouded.sample import HIDING

SIZE = (256, 256)
DATES = 12


def run_demo(
    out: Path,
    *,
    data: Path | None = None,
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
        return remove_clouds(data, out, date=chosen, model=name, overwrite=True, progress=progress)
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
    product = remove_clouds(series, out, date=chosen, model=name, overwrite=True, progress=progress)
    return product


def _half_covered(series: Path) -> str:
    from unclouded.masks.detect import detect
    from unclouded.scenes.open import open_scene

    scene = detect(open_scene(series))
    assert scene.masks is not None
    share = HIDING[np.asarray(scene.masks)].mean((1, 2))
    return str(scene.dates[int(np.abs(share - 0.5).argmin())])
