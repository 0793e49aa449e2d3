"""Small pictures of a product: gathered block by block while the pixels are at hand, drawn once at the end.

A full tile is never read again for its quicklook: every block leaves a glimpse of itself (means over `step` x `step` pixels),
and glimpses are put together into a `Look` of at most `SIDE` pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded.products.cog import RGB
from unclouded.products.fill import SIGMA_UNIT, SIGMA_UNKNOWN, Block, spread
from unclouded.products.legend import SOURCE_COLOURS, SOURCE_NAMES
from unclouded.sample import Cover, Source, Window
from unclouded.scenes.scene import Layer
from unclouded.units import to_reflectance

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIDE = 1400  # pixels of the longer side of a Look
PANEL = 640  # pixels of a quicklook panel
GAMMA = 1 / 1.3
COMPOSITES = (("B04", "B03", "B02"), ("B08", "B04", "B03"), ("B11", "B8A", "B04"), ("B12", "B8A", "B04"))
HEAT: tuple[RGB, ...] = ((68, 18, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # low to high
INK, PAPER, FAINT = (28, 34, 38), (255, 255, 255), (112, 122, 128)


def step_for(shape: tuple[int, int], block: int) -> int:
    """How many pixels a side one glimpse pixel stands for: the smallest divisor of the block that fits the scene into SIDE."""
    fits = [s for s in range(1, block + 1) if block % s == 0 and max(shape) <= SIDE * s]
    return fits[0] if fits else block


def composite(bands: Sequence[str]) -> tuple[int, int, int]:
    """Which bands to show as red, green, blue: natural colour if there, else a common false colour, else the first ones."""
    for triple in COMPOSITES:
        if all(band in bands for band in triple):
            return bands.index(triple[0]), bands.index(triple[1]), bands.index(triple[2])
    last = len(bands) - 1
    return 0, min(1, last), min(2, last)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A whole scene made small, and the sums for its mean spectra. Reflectance is NaN where there is nothing to show."""

    step: int
    bands: tuple[str, ...]
    before: NDArray[np.float32]  # (3, h, w) reflectance
    after: NDArray[np.float32]  # (3, h, w) reflectance
    source: NDArray[np.uint8]  # (h, w) codes of Source
    sigma: NDArray[np.float32]  # (h, w) mean over the bands, reflectance; observed 0, unknown NaN
    sums: NDArray[np.float64]  # (2 before/after, 2 sum/count, classes, C)

    @cached_property
    def pictures(self) -> tuple[NDArray[np.uint8], ...]:
        """Before, after, source and sigma as (h, w, 4) RGBA bytes, drawn once; call when all is in."""
        return (*stretched(self), source_picture(self), sigma_picture(self))

    @staticmethod
    def empty(shape: tuple[int, int], bands: tuple[str, ...], step: int) -> Look:
        """A look of a scene of `shape`, nothing in it yet."""
        small = (-(-shape[0] // step), -(-shape[1] // step))
        nothing = np.full((3, *small), np.nan, np.float32)
        return Look(
            step=step, bands=bands, before=nothing, after=nothing.copy(), source=np.zeros(small, np.uint8),
            sigma=np.full(small, np.nan, np.float32), sums=np.zeros((2, 2, len(Cover), len(bands))),
        )  # fmt: skip

    def parts(self, window: Window) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Type and shape of each array of the glimpse of a block."""
        small = (-(-window.height // self.step), -(-window.width // self.step))
        return (
            ("float32", (3, *small)),
            ("float32", (3, *small)),
            ("uint8", small),
            ("float32", small),
            ("float64", self.sums.shape),
        )

    def add(self, window: Window, parts: Sequence[NDArray[Any]]) -> None:
        """Put the glimpse of one block in its place. Call in one order, so that sums are the same to the bit."""
        height, width = parts[2].shape
        at = Window(window.row // self.step, window.col // self.step, height, width).slices
        wholes: tuple[NDArray[Any], ...] = (self.before, self.after, self.source, self.sigma)
        for whole, part in zip(wholes, parts, strict=False):
            whole[(..., *at)] = part
        self.sums[:] += parts[4]

    def spectra(self, classes: Sequence[Cover]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean reflectance (C,) before and after over the pixels of some classes; NaN where there are none."""
        total = self.sums[:, :, list(classes)].sum(axis=2)
        means = np.divide(total[:, 0], total[:, 1], out=np.full_like(total[:, 0], np.nan), where=total[:, 1] > 0)
        return means[0], means[1]


def glimpse(block: Block, layers: Sequence[Layer], bands: Sequence[str], step: int) -> tuple[NDArray[Any], ...]:
    """What a `Look` keeps of a block: before, after, source, sigma made small, and sums per class and band.

    The sums are taken over every `step`-th pixel of every `step`-th row: a mean spectrum needs no more.
    """
    before = after = _seen(block, layers, block.delivered, bands, step, hidden=block.mask == Cover.NODATA)
    if any(one is not other for one, other in zip(block.delivered, block.clear, strict=True)):
        after = _seen(block, layers, block.clear, bands, step, hidden=None)
    return before[0], after[0], _thin(block.source, step), _small_sigma(block.sigma, step), np.stack([before[1], after[1]])


def _seen(
    block: Block, layers: Sequence[Layer], counts: Sequence[NDArray[Any]], bands: Sequence[str], step: int,
    hidden: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:  # fmt: skip
    """The picture (3, h, w) of counts per layer and their sums (2 sum/count, classes, C), without pixels that are `hidden`."""
    shown, classes = composite(bands), _thin(block.mask, step).ravel().astype(np.intp)
    all_seen = np.bincount(classes, minlength=len(Cover))
    picture = np.full((3, -(-block.window.height // step), -(-block.window.width // step)), np.nan, np.float32)
    sums = np.zeros((2, len(Cover), len(bands)))
    for layer, dn in zip(layers, counts, strict=True):
        for n, band in enumerate(layer.bands):
            fine, b = spread(dn[n], layer.factor, block.window), bands.index(band)
            value, seen = _reflectance(_thin(fine, step), layer, n, None if hidden is None else _thin(hidden, step))
            sums[0, :, b] = np.bincount(classes, np.where(seen, value, np.float32(0)).ravel(), len(Cover))
            sums[1, :, b] = all_seen if seen.all() else np.bincount(classes, seen.ravel(), len(Cover))
            for channel in np.flatnonzero(np.equal(shown, b)):
                value, seen = _reflectance(fine, layer, n, hidden)
                picture[channel] = _shrink(value if seen.all() else np.where(seen, value, np.float32(np.nan)), step)
    return picture, sums


def _reflectance(
    dn: NDArray[Any], layer: Layer, n: int, hidden: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    value, seen = to_reflectance(dn, quantification=layer.quantification, offset=layer.offset[n], nodata=layer.nodata)
    return value, seen if hidden is None else seen & ~hidden


def _thin(image: NDArray[Any], step: int) -> NDArray[Any]:
    """The middle pixel of every step x step pixels of (h, w), the last one of smaller rests."""
    rows, cols = (_middles(n, step) for n in image.shape)
    return image[rows][:, cols]


def _middles(n: int, step: int) -> slice | NDArray[np.int64]:
    """The middle of every `step` of `n` positions, the last one of a smaller rest."""
    if (n - 1) % step >= step // 2:
        return slice(step // 2, None, step)
    return np.minimum(np.arange(step // 2, n + step // 2, step), n - 1)


def _shrink(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Means over step x step pixels of (h, w), the last ones smaller; NaN where there is nothing."""
    if step == 1:
        return values
    seen = np.isfinite(values)
    count = _totals(seen, step)
    total = _totals(values if seen.all() else np.where(seen, values, np.float32(0)), step)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0).astype(np.float32)


def _totals(values: NDArray[Any], step: int) -> NDArray[np.float64]:
    """Sums over step x step pixels of (h, w): shifted images one upon the other, several times as fast as `reduceat`."""
    down = values[::step].astype(np.float64)
    for k in range(1, step):
        down[: -(-(len(values) - k) // step)] += values[k::step]
    total = down[:, ::step].copy()
    for k in range(1, step):
        total[:, : -(-(values.shape[1] - k) // step)] += down[:, k::step]
    return total


def _small_sigma(sigma: NDArray[np.uint16], step: int) -> NDArray[np.float32]:
    """Mean sigma over bands and pixels from counts (C, h, w); observed 0, unknown NaN."""
    if not sigma.any():
        return np.zeros((-(-sigma.shape[1] // step), -(-sigma.shape[2] // step)), np.float32)
    known = (sigma != SIGMA_UNKNOWN).all(0)
    mean = sigma.mean(0, dtype=np.float32) / SIGMA_UNIT
    return _shrink_sigma(np.where(known, mean, np.float32(np.nan)).astype(np.float32), step)


def _shrink_sigma(sigma: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """The mean over the rebuilt pixels of a cell: observed ones (0) would make the rims of clouds look surer than they are."""
    rebuilt = _shrink(np.where(sigma > 0, sigma, np.float32(np.nan)), step)
    return np.where(_shrink(sigma, step) == 0, np.float32(0), rebuilt)


def stretched(look: Look) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Before and after as (h, w, 4) RGBA bytes, with one stretch taken from the cloud-free image."""
    low, high = np.zeros(3, np.float32), np.ones(3, np.float32)
    for n, band in enumerate(look.after):
        seen = band[np.isfinite(band)]
        if seen.size:
            low[n], high[n] = np.percentile(seen, (1, 99))
    high = np.maximum(high, low + 0.01)
    return _rgba(look.before, low, high), _rgba(look.after, low, high)


def _rgba(picture: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.uint8]:
    seen = np.isfinite(picture).all(0)
    unit = np.clip((np.where(seen, picture, 0) - low[:, None, None]) / (high - low)[:, None, None], 0, 1)
    return np.dstack([*np.rint(255 * unit**GAMMA).astype(np.uint8), np.where(seen, 255, 0).astype(np.uint8)])


def source_picture(look: Look) -> NDArray[np.uint8]:
    """The source map as (h, w, 4) RGBA bytes."""
    colours = np.array([(*SOURCE_COLOURS[code], 255 if code else 0) for code in Source], np.uint8)
    return colours[look.source]


def sigma_top(look: Look) -> float:
    """The upper end of the sigma scale: the 98th percentile of rebuilt pixels, in hundredths of reflectance."""
    rebuilt = look.sigma[np.isfinite(look.sigma) & (look.sigma > 0)]
    return max(0.01, float(np.ceil(np.percentile(rebuilt, 98) * 100) / 100)) if rebuilt.size else 0.01


def sigma_picture(look: Look) -> NDArray[np.uint8]:
    """Sigma as (h, w, 4) RGBA bytes; observed pixels as in the source map, unknown sigma dark grey."""
    unit = np.clip(np.where(np.isfinite(look.sigma), look.sigma, 0) / sigma_top(look), 0, 1)
    picture = np.dstack([heat(unit), np.full(unit.shape, 255, np.uint8)])
    picture[look.sigma == 0] = (*SOURCE_COLOURS[Source.OBSERVED], 255)
    picture[~np.isfinite(look.sigma)] = (90, 90, 96, 255)
    picture[look.source == Source.NODATA] = 0
    return picture


def heat(unit: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values in [0, 1] -> (..., 3) colours from dark violet to yellow."""
    at = np.linspace(0, 1, len(HEAT))
    return np.stack([np.rint(np.interp(unit, at, [rgb[c] for rgb in HEAT])).astype(np.uint8) for c in range(3)], axis=-1)


def shares(look: Look) -> list[tuple[Source, float]]:
    """The share of each source among the pixels that hold data or were hidden, largest first."""
    counts = np.bincount(look.source.ravel(), minlength=len(Source)).astype(float)
    total = counts[1:].sum() or 1.0
    present = [(code, counts[code] / total) for code in Source if code and counts[code]]
    return sorted(present, key=lambda pair: -pair[1])


def quicklook(path: Path, look: Look, *, title: str) -> None:
    """Write the four panels (before, after, source, sigma) with legends as a PNG."""
    from PIL import Image as Pictures

    before, after, source, sigma = look.pictures
    names = [look.bands[b] for b in composite(look.bands)]
    panels = (
        ("Before", f"as delivered, {' '.join(dict.fromkeys(names))}", before),
        ("After", "same stretch", after),
        ("Source", "where each pixel comes from", source),
        ("Sigma", "stated error of the rebuilt pixels", sigma),
    )
    height, width = look.source.shape
    scale = PANEL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    wide = max(size[0], 320)
    margin, head, label = 28, 84, 40
    page = Pictures.new("RGB", (3 * margin + 2 * wide, head + 2 * (label + size[1] + margin) + 76), PAPER)
    pen = _pen(page)
    _text(pen, (margin, 22), title, 30, INK)
    for n, (name, note, picture) in enumerate(panels):
        left, top = margin + (n % 2) * (wide + margin), head + (n // 2) * (label + size[1] + margin)
        _text(pen, (left, top + 4), name, 22, INK)
        _text(pen, (left + pen.textlength(name, font=_font(22)) + 12, top + 11), note, 15, FAINT)
        page.paste(_framed(picture, size, smooth=n < 2), (left, top + label))
    _legends(pen, look, margin, wide, page.height - 76)
    page.save(path)


def _framed(picture: NDArray[np.uint8], size: tuple[int, int], *, smooth: bool) -> Image:
    """A picture at panel size on a chequered ground that shows where nothing is."""
    from PIL import Image as Pictures

    way = Pictures.Resampling.LANCZOS if smooth and picture.shape[1] > size[0] else Pictures.Resampling.NEAREST
    image = Pictures.fromarray(picture, "RGBA").resize(size, way)
    rows, cols = np.indices((size[1], size[0])) // 12
    ground = np.where(((rows + cols) % 2)[..., None], np.uint8(236), np.uint8(248)).repeat(3, -1)
    below = Pictures.fromarray(ground, "RGB")
    below.paste(image, mask=image.getchannel("A"))
    return below


def _legends(pen: ImageDraw, look: Look, margin: int, wide: int, top: int) -> None:
    x, y = margin, top
    for code, share in shares(look):
        text = f"{SOURCE_NAMES[code]} {percent(share)}"
        length = 22 + int(pen.textlength(text, font=_font(15))) + 18
        if x + length > margin + wide and x > margin:
            x, y = margin, y + 24
        pen.rectangle((x, y + 2, x + 14, y + 16), fill=SOURCE_COLOURS[code], outline=FAINT)
        _text(pen, (x + 22, y), text, 15, INK)
        x += length
    left, bar = 2 * margin + wide, 220
    for dx in range(bar):
        red, green, blue = (int(v) for v in heat(np.array(dx / (bar - 1))))
        pen.line((left + dx, top + 2, left + dx, top + 16), fill=(red, green, blue))
    _text(pen, (left, top + 20), "0", 14, FAINT)
    ends = f"{sigma_top(look):.2f} reflectance"
    _text(pen, (left + bar - pen.textlength(f"{sigma_top(look):.2f}", font=_font(14)), top + 20), ends, 14, FAINT)


def percent(share: float) -> str:
    """0.4213 -> '42.1 %'; never '0.0 %' for something that is there."""
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %" if share else "0 %"


def _pen(page: Image) -> ImageDraw:
    from PIL import ImageDraw as Drawing

    return Drawing.Draw(page)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _text(pen: ImageDraw, at: tuple[float, float], text: str, size: int, colour: RGB) -> None:
    pen.text(at, text, font=_font(size), fill=colour)
