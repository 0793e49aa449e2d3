"""Synthetic clouds over clear ground, Sample -> Sample: the ground stays as the target, the true mask as `cloud`.

Five ways, from the simplest to the most physical:

- `perlin`: noise blended evenly into all bands (Ebel et al. 2020, section III-D4, "Perlin").
- `copied`: the cloudy image of a pair blended onto the clear one by its own soft cloud map (the same, "Copy").
- `cut_out`: thick clouds clipped out of real cloudy images and laid over (Darbaghshahi et al. 2021, Fig. 4).
- `transplanted`: the cloud, with its mask, of another date of the same place, turned by chance.
- `physical`: optical thickness, shadow displaced by the sun, cirrus in B10, every band by its own laws (sky.py).

Each covers one date: `date` (an index), else the sample's target, else its last date. Each is decided by its seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from unclouded.bands import BY_NAME
from unclouded.datasets.lattice import Field, fractal, key
from unclouded.datasets.sky import add_path, make_sky, path_of, sun
from unclouded.datasets.world import coarse
from unclouded.errors import InputMissing, InputUnsupported
from unclouded.sample import HIDDEN_FROM, Sample, Window

SOFT_SIGMA = 2.0  # pixels (Ebel et al. 2020, section II-A)
SMALLEST = 60  # pixels of a cut-out
BRIGHT = 0.2  # mean visible reflectance from which a masked pixel is cloud and no shadow


def perlin(sample: Sample, *, seed: int, cover: float = 0.5, wavelength: float = 90.0, date: int | None = None) -> Sample:
    """Blend white noise clouds evenly into all bands; `cover` of the pixels are hidden by half or more."""
    i, ground = _ground(sample, date)
    height, width = sample.shape
    noise = fractal(key(seed, "perlin", i), np.arange(height), np.arange(width), wavelength, octaves=6, gain=0.6)
    middle = np.quantile(noise, 1 - np.clip(cover, 0, 1))
    alpha = np.clip(0.5 + np.float32(1.1) * (noise - np.float32(middle)), 0, 1)
    if cover <= 0:
        alpha = np.zeros_like(alpha)
    return _covered(sample, i, ground, blend(ground, np.float32(1), alpha), alpha)


def copied(sample: Sample, *, date: int | None = None) -> Sample:
    """Blend the cloudy image of a pair onto its clear target by the soft map of its own cloud probability.

    Without chance. Raises InputMissing where the sample has no target or no cloud probability.
    """
    i = _date(sample, date)
    if sample.target is None or sample.cloud is None:
        raise InputMissing(
            "Copied clouds need a cloudy image with a cloud probability, and its clear target.", where=sample.place.id,
            do="take a paired data set (SEN12MS-CR) and run a detector first.",
        )  # fmt: skip
    alpha = soften(sample.cloud[i])
    return _covered(sample, i, sample.target, blend(sample.target, sample.s2[i], alpha), alpha)


def cut_out(
    sample: Sample, donors: Sequence[Sample], *, seed: int, cover: float = 0.3, thick: float = 0.9, date: int | None = None
) -> Sample:
    """Lay thick clouds, clipped out of real cloudy images, over the ground until about `cover` of it is hidden.

    A cut-out is a connected bright piece where a donor's `cloud` is at least `thick`, turned and shifted by chance. In its core
    nothing of the ground is left, over two pixels of its rim it fades. Donors must have the sample's bands.
    Raises InputMissing where no donor has a thick cloud, InputUnsupported for other bands.
    """
    i, ground = _ground(sample, date)
    draw = np.random.default_rng(key(seed, "cut-out", i))
    pieces = [piece for donor in donors for piece in _pieces(donor, thick, sample.place.bands)]
    if not pieces:
        raise InputMissing("No donor has a thick cloud to cut out.", where=sample.place.id, do="give cloudier donors.")
    image, alpha = ground.copy(), np.zeros(sample.shape, np.float32)
    for _ in range(64):
        if np.mean(alpha >= HIDDEN_FROM) >= cover:
            break
        _lay(image, alpha, _turned(pieces[int(draw.integers(len(pieces)))], draw, any_quarter=True), draw)
    return _covered(sample, i, ground, image, alpha)


def transplanted(sample: Sample, *, seed: int, cover: tuple[float, float] = (0.05, 0.95), date: int | None = None) -> Sample:
    """Lay the clouds and shadows of another date of the same place over this one, turned and mirrored by chance.

    The mask is softened by one pixel; the pixels are those of the mask's own date. `cover`: which dates may give.
    Raises InputMissing where no date fits.
    """
    i, ground = _ground(sample, date)
    draw = np.random.default_rng(key(seed, "transplant", i))
    shares = np.zeros(len(sample.s2_dates)) if sample.cloud is None else (sample.cloud >= HIDDEN_FROM).mean((1, 2))
    fit = [t for t, share in enumerate(shares) if cover[0] <= share <= cover[1] and t != i and sample.s2_valid[t].all()]
    if not fit or sample.cloud is None:
        raise InputMissing(
            f"No other date of the place is covered by {cover[0]:.0%} to {cover[1]:.0%}.", where=sample.place.id,
            why="covers: " + ", ".join(f"{s:.0%}" for s in shares), do="widen `cover`, or take `physical`.",
        )  # fmt: skip
    t = fit[int(draw.integers(len(fit)))]
    turned = _turned(
        np.concatenate([sample.s2[t], sample.cloud[t][None]]), draw, any_quarter=sample.shape[0] == sample.shape[1]
    )
    alpha = ndimage.gaussian_filter((turned[-1] >= HIDDEN_FROM).astype(np.float32), 1.0)
    return _covered(sample, i, ground, blend(ground, turned[:-1], alpha), alpha)


def physical(
    sample: Sample,
    *,
    seed: int,
    cover: float = 0.5,
    kind: str | None = None,
    latitude: float | None = None,
    date: int | None = None,
) -> Sample:
    """Clouds and shadows by optical thickness, band by band; `cover` of the pixels are hidden by cloud or shadow.

    `kind`: cumulus, bank, cirrus, overcast, or None for chance. `latitude` in degrees: by default the place's, or 45 where
    it has no grid. Raises InputUnsupported for an unknown kind.
    """
    i, ground = _ground(sample, date)
    rows, cols = (np.arange(side) for side in sample.shape)
    light = sun(sample.s2_dates[i], _latitude(sample) if latitude is None else latitude)
    bands, level = sample.place.bands, sample.place.level
    sky = make_sky(key(seed, "physical", i), cover, light, level, Window(0, 0, *sample.shape), kind)
    view = sky.look(rows, cols)
    if level == "L1C":
        seen = add_path(view.through(ground - path_of(bands), bands, level), bands, view)
    else:
        seen = view.through(ground, bands, level)
    added = np.stack([_native(seen[n] - ground[n], BY_NAME[b].metres // 10) for n, b in enumerate(bands)])
    return _covered(sample, i, ground, ground + added, np.clip(view.cloud(), 0, 1))


def soften(probability: Field) -> Field:
    """A soft cloud map: values of at most one half dropped, then a Gaussian of 2 pixels (Ebel et al. 2020, section II-A)."""
    kept = np.where(probability > 0.5, probability, 0).astype(np.float32)
    return np.clip(ndimage.gaussian_filter(kept, SOFT_SIGMA), 0, 1)


def blend(ground: Field, cloud: Field | np.float32, alpha: Field) -> Field:
    """`cloud` over `ground` (Porter and Duff 1984): alpha cloud + (1 - alpha) ground."""
    out: Field = (alpha * cloud + (1 - alpha) * ground).astype(np.float32)
    return out


def _date(sample: Sample, date: int | None) -> int:
    if date is not None:
        if not 0 <= date < len(sample.s2_dates):
            raise InputMissing(f"There is no date {date}; the sample has {len(sample.s2_dates)}.", where=sample.place.id)
        return date
    return len(sample.s2_dates) - 1 if sample.target_index is None else sample.target_index


def _ground(sample: Sample, date: int | None) -> tuple[int, Field]:
    """The date to cover and its clear ground: the target where it belongs to this date, else the date's own image."""
    i = _date(sample, date)
    known = sample.target is not None and sample.target_index in (None, i)
    return i, sample.target if known and sample.target is not None else sample.s2[i]


def _covered(sample: Sample, i: int, ground: Field, image: Field, alpha: Field) -> Sample:
    """The sample with date i under clouds. Its ground becomes the target, valid where it was measured and seen."""
    if ground is sample.target:
        known = np.ones(sample.shape, bool) if sample.target_valid is None else sample.target_valid
        measured = known
    else:
        known, measured = sample.clear()[i], sample.s2_valid[i]
    s2, valid = sample.s2.copy(), sample.s2_valid.copy()
    s2[i], valid[i] = np.where(measured, image, 0), measured
    cloud = np.zeros(valid.shape, np.float32) if sample.cloud is None else sample.cloud.copy()
    cloud[i] = np.clip(alpha, 0, 1)
    scl = None if sample.scl is None else sample.scl.copy()
    if scl is not None:
        scl[i] = np.where(alpha >= HIDDEN_FROM, np.uint8(9), scl[i])
    return replace(
        sample, s2=s2, s2_valid=valid, cloud=cloud, scl=scl, target=ground.copy(), target_valid=known, target_index=i,
        target_date=sample.s2_dates[i],
    )  # fmt: skip


def _latitude(sample: Sample) -> float:
    if sample.place.grid is None:
        return 45.0
    return float(sample.place.grid.geographic_extent.centroid.coords[0][1])


def _native(image: Field, factor: int) -> Field:
    """The mean over factor x factor pixels, repeated: what a 20 or 60 m band sees."""
    height, width = image.shape
    whole = np.pad(image, ((0, -height % factor), (0, -width % factor)), mode="edge")
    return coarse(whole, factor)[:height, :width]


def _pieces(donor: Sample, thick: float, bands: tuple[str, ...]) -> list[Field]:
    """The thick clouds of a donor, (C + 1, h, w) each: its bands, and alpha, which fades towards the rim."""
    if donor.place.bands != bands:
        raise InputUnsupported(
            f"The donor has the bands {', '.join(donor.place.bands)}; the sample has {', '.join(bands)}.",
            where=donor.place.id, do="choose the same bands for both.",
        )  # fmt: skip
    pieces: list[Field] = []
    for t in range(0 if donor.cloud is None else len(donor.cloud)):
        assert donor.cloud is not None
        visible = [n for n, b in enumerate(bands) if b in ("B02", "B03", "B04")] or slice(None)
        core = (donor.cloud[t] >= thick) & donor.s2_valid[t] & (donor.s2[t, visible].mean(0) >= BRIGHT)
        numbered, _ = ndimage.label(core)
        for n, box in enumerate(ndimage.find_objects(numbered), start=1):
            part = numbered[box] == n
            if part.sum() >= SMALLEST:
                depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
                alpha = np.clip(depth / 3, 0, 1).astype(np.float32)
                pieces.append(np.concatenate([donor.s2[(t, slice(None), *box)], alpha[None]]))
    return pieces


def _turned(piece: Field, draw: np.random.Generator, *, any_quarter: bool) -> Field:
    """Mirrored and turned by chance; only by half turns where height and width must stay."""
    quarters = int(draw.integers(4)) if any_quarter else 2 * int(draw.integers(2))
    mirrored = piece[..., ::-1] if draw.random() < 0.5 else piece
    return np.ascontiguousarray(np.rot90(mirrored, quarters, axes=(-2, -1)))


def _lay(image: Field, alpha: Field, piece: Field, draw: np.random.Generator) -> None:
    """Lay a piece over the image with its middle anywhere; alpha keeps what hides most."""
    (height, width), (h, w) = alpha.shape, piece.shape[1:]
    top, left = int(draw.integers(height)) - h // 2, int(draw.integers(width)) - w // 2
    rows, cols = slice(max(top, 0), min(top + h, height)), slice(max(left, 0), min(left + w, width))
    part = piece[:, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    image[:, rows, cols] = blend(image[:, rows, cols], part[:-1], part[-1])
    alpha[rows, cols] = 1 - (1 - alpha[rows, cols]) * (1 - part[-1])
