"""Tiny scenes with known pixels for the tests of products: one layer, or 10, 20 and 60 m layers as a SAFE folder has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from unclouded.products.fill import KEEP_ALL, Guess, Limits, fill
from unclouded.products.product import Product, ProductWriter
from unclouded.sample import HIDING, Cover, Place, Source, Window, as_days
from unclouded.scenes.scene import Layer, Scene, reflectance_of

DATE = np.datetime64("2020-06-01")
FINE, COARSE, COARSEST = ("B02", "B03", "B04"), ("B05", "B11"), ("B01",)


def geobox(height: int, width: int, metres: float = 10.0) -> GeoBox:
    return GeoBox((height, width), Affine(metres, 0, 500_000, 0, -metres, 5_500_000), "EPSG:32631")


@dataclass(frozen=True)
class Stored:
    """A PixelSource of one date over DN arrays, one per layer."""

    parts: tuple[Layer, ...]
    dn: tuple[np.ndarray, ...]
    bands: tuple[str, ...]

    def layers(self, i: int) -> tuple[Layer, ...]:
        return self.parts

    def counts(self, i: int, layer: Layer, window: Window) -> np.ndarray:
        n = [part.name for part in self.parts].index(layer.name)
        return self.dn[n][(slice(None), *window.slices)]

    def s2(self, i: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        planes, valid = {}, np.ones((window.height, window.width), bool)
        for layer, dn in zip(self.parts, self.dn, strict=True):
            values, ok = reflectance_of(dn, layer)
            f = layer.factor
            cut = (slice(None), *window.slices)
            planes |= dict(zip(layer.bands, values.repeat(f, 1).repeat(f, 2)[cut], strict=True))
            valid &= ok.repeat(f, 1).repeat(f, 2)[cut].all(0)
        return np.stack([planes[band] for band in self.bands]), valid

    def s1(self, k, window):
        raise AssertionError("no radar here")

    def scl(self, i, window):
        return None

    def given(self, i, window):
        return None


def layer(name: str, bands: tuple[str, ...], shape: tuple[int, int], factor: int, **changes) -> Layer:
    own = {
        "dtype": "uint16", "nodata": 0.0, "quantification": 10_000.0, "offset": (-1000.0,) * len(bands),
        "descriptions": tuple(f"{band}_delivered" for band in bands), "grid": geobox(*shape, 10.0 * factor),
        "scale_tags": (1e-4,) * len(bands), "offset_tags": (-0.1,) * len(bands), "tags": {"MISSION": "made", "NOTE": "a=b; ü"},
    }  # fmt: skip
    return Layer(name=name, bands=bands, shape=shape, factor=factor, **(own | changes))


def classes_of(height: int, width: int, seed: int) -> np.ndarray:
    """Patches of every class: some clear, some hidden, some without data."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(len(Cover), (height // 5 + 1, width // 5 + 1), p=(0.08, 0.5, 0.08, 0.16, 0.08, 0.05, 0.05))
    return cells.repeat(5, 0).repeat(5, 1)[:height, :width].astype(np.uint8)


def mixed(height: int = 100, width: int = 86, seed: int = 0, classes: np.ndarray | None = None) -> Scene:
    """A scene of 10, 20 and 60 m bands. DN 0 exactly where the class is NODATA."""
    rng = np.random.default_rng(seed)
    classes = classes_of(height, width, seed) if classes is None else classes
    parts, arrays = [], []
    for name, bands, factor in (("10m", FINE, 1), ("20m", COARSE, 2), ("60m", COARSEST, 6)):
        shape = (-(-height // factor), -(-width // factor))
        dn = rng.integers(1001, 9000, (len(bands), *shape), np.uint16)
        if factor == 1:
            dn[:, classes == Cover.NODATA] = 0
        else:
            empty = coarse_all(classes == Cover.NODATA, factor)
            dn[:, empty] = 0
        parts.append(layer(name, bands, shape, factor))
        arrays.append(dn)
    place = Place(id="T31 made", bands=(*COARSEST, *FINE, *COARSE), level="L2A", grid=geobox(height, width))
    source = Stored(tuple(parts), tuple(arrays), place.bands)
    return Scene(place=place, shape=(height, width), dates=as_days([DATE]), source=source, masks=classes[None])


def single(dn: np.ndarray, classes: np.ndarray, **changes) -> Scene:
    """A scene of one layer of FINE bands from DN (3, H, W)."""
    shape = classes.shape
    part = layer("", FINE, shape, 1, **({"dtype": str(dn.dtype)} | changes))
    place = Place(id="one", bands=FINE, level="L2A", grid=part.grid)
    source = Stored((part,), (dn,), FINE)
    return Scene(place=place, shape=shape, dates=as_days([DATE]), source=source, masks=classes[None])


def coarse_all(fine: np.ndarray, factor: int) -> np.ndarray:
    """Whether every scene pixel beneath each coarse pixel is set (by a plain loop, to check against)."""
    rows, cols = (-(-n // factor) for n in fine.shape)
    return np.array(
        [[fine[r * factor : (r + 1) * factor, c * factor : (c + 1) * factor].all() for c in range(cols)] for r in range(rows)]
    )


def guess_of(scene: Scene, window: Window, seed: int = 1) -> Guess:
    """A guess that depends on nothing but the pixel's place: smooth reflectance, all sources, some pixels refused."""
    rows, cols = (np.arange(a, a + n) for a, n in ((window.row, window.height), (window.col, window.width)))
    y, x = np.meshgrid(rows, cols, indexing="ij")
    s2 = np.stack([0.1 + 0.02 * b + 0.05 * np.sin((x + seed) / 7) * np.cos(y / 5) for b in range(len(scene.place.bands))])
    s2[:, (x * 7 + y * 3) % 41 == 0] = np.nan
    codes = np.array([Source.DATES, Source.DATES_SAR, Source.SAR, Source.PRIOR, Source.SAME_IMAGE], np.uint8)
    return Guess(
        s2=s2.astype(np.float32), sigma=(0.01 + 0.001 * (x % 9) + 0 * s2).astype(np.float32),
        source=codes[(x // 11) % 5], age=((y % 30) - 15).astype(np.int16),
    )  # fmt: skip


def hidden(classes: np.ndarray) -> np.ndarray:
    return HIDING[classes]


def finish(
    out: Path,
    scene: Scene,
    *,
    block: int = 24,
    order: int | None = None,
    limits: Limits = KEEP_ALL,
    job: dict | None = None,
    **options,
) -> Product:
    """The whole run: every block that is left, in a shuffled order if `order` is a seed."""
    with ProductWriter(out, scene, DATE, job={"model": "made"} if job is None else job, block=block, **options) as writer:
        todo = writer.todo()
        if order is not None:
            np.random.default_rng(order).shuffle(todo)
        for row, col, height, width in todo:
            at = Window(int(row), int(col), int(height), int(width))
            writer.write(
                fill(scene, DATE, at, scene.masks[0][at.slices], guess_of(scene, at), layers=writer.layers, limits=limits)
            )
        return writer.publish(probe={"kind": "target", "rmse": [0.01] * len(scene.place.bands)}, sigma_source="model")
