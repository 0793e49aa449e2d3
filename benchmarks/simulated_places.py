"""Simulated places for the series benchmark: the truth of every date is known, under its own clouds, free of noise.

A target is seen under the simulator's own cloud and shadow, drawn anew for every cover; masks are the true ones, grown by one
pixel. What lies beneath is `SimulatedSource.truth`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.datasets.simulated import Event, SimulatedSource, World, hold, make_world
from unclouded.sample import HIDING, Window

SIDE = 128  # pixels
DATES, STEP = 24, 5  # days between
SQUARE = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Climate:
    """One kind of place: a climate of the simulator, when its series starts, and what happens to it."""

    climate: str
    start: str
    seed: int
    events: tuple[Event, ...] = ()


def _fires(day: str) -> tuple[Event, ...]:
    at = ((30, 34, 22), (88, 40, 26), (52, 96, 24), (100, 102, 18))
    return tuple(Event(kind="fire", day=np.datetime64(day), row=r, col=c, radius=radius) for r, c, radius in at)


CLIMATES: dict[str, Climate] = {
    "sim-temperate": Climate("temperate", "2024-04-16", 11),
    "sim-mediterranean": Climate("mediterranean", "2024-03-05", 12),
    "sim-snow": Climate("snow", "2024-02-10", 13),  # lying snow, thaw at the end of April, then spring
    "sim-rice": Climate("rice", "2024-03-28", 14),  # fields flooded from mid-April on, planted, green, harvested
    "sim-dryland": Climate("dryland", "2024-06-01", 15),  # green-up with the rains
    "sim-harvest": Climate("temperate", "2024-05-20", 16),  # cereals turn and are cut within weeks of one another
    "sim-fire": Climate("mediterranean", "2024-05-10", 17, _fires("2024-07-07")),  # scars from one date to the next
}


def world_of(name: str) -> World:
    """The simulated world of one of `CLIMATES`."""
    kind = CLIMATES[name]
    return make_world(
        seed=kind.seed, size=(SIDE, SIDE), dates=DATES, start=kind.start, step=STEP, climate=kind.climate, events=kind.events
    )


def parts(name: str) -> dict[str, object]:
    """What the protocol's Series takes from a simulated place."""
    world = world_of(name)
    place = hold(SimulatedSource(world))
    sample = place.sample
    return {
        "bands": sample.place.bands, "level": sample.place.level, "x": sample.s2, "clear": ~_grown(place.cover),
        "days": world.dates.astype(np.int64), "s1": sample.s1, "s1_days": world.s1_dates.astype(np.int64),
        "s1_orbits": world.s1_orbits, "truth": place.truth, "under": partial(under_cloud, world),
    }  # fmt: skip


def under_cloud(
    world: World, t: int, cover: tuple[float, float], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Date t of a world under a cloud of some cover: the image (C, H, W) and what of it is hidden (H, W)."""
    share = float(rng.uniform(*cover))
    covers = tuple(share if i == t else c for i, c in enumerate(world.covers))
    source, whole = SimulatedSource(replace(world, covers=covers)), Window(0, 0, *world.shape)
    hidden = np.ones(world.shape, bool) if share >= 1 else _grown(source.cover(t, whole)[None])[0]
    return source.s2(t, whole)[0], hidden


def _grown(cover: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.stack([ndimage.binary_dilation(hidden, SQUARE) for hidden in HIDING[cover]])
