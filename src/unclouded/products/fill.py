"""What was seen stays, bit for bit; what was hidden is filled. One block of a scene in, one block of every product file out.

Everything here is a pure function of its arrays, so a block can be done in any order, by any worker, any number of times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputUnsupported, RecordError, UsageError
from unclouded.products.cog import native_window
from unclouded.sample import HIDING, NO_AGE, Cover, Prediction, Source, Window
from unclouded.scenes.scene import Layer, Scene
from unclouded.units import is_valid, to_counts

SIGMA_UNIT = 10_000  # ID_sigma.tif counts reflectance x 10000
SIGMA_UNKNOWN = 65_535
REBUILT = frozenset({Source.DATES, Source.DATES_SAR, Source.SAR, Source.PRIOR, Source.SAME_IMAGE, Source.REFUSED})


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A Prediction of one window as NumPy: s2 and sigma (C, h, w) reflectance, source (h, w) uint8, age (h, w) int16 days.

    `sigma` may be (C, 1, 1): a constant per band, as the probe gives it to removers that state none.
    """

    s2: NDArray[np.float32]
    sigma: NDArray[np.float32] | None = None
    source: NDArray[np.uint8] | None = None
    age: NDArray[np.int16] | None = None

    @staticmethod
    def of(prediction: Prediction, n: int = 0) -> Guess:
        """Sample `n` of a prediction."""

        def array(name: str) -> Any:
            value = getattr(prediction, name)
            return None if value is None else value[n].detach().cpu().numpy()

        return Guess(s2=array("s2"), sigma=array("sigma"), source=array("source"), age=array("age"))

    def crop(self, window: Window) -> Guess:
        """The part of the guess in a window of it."""
        at = window.slices

        def cut(array: Any) -> Any:
            return None if array is None else array[(..., *at)]

        return Guess(s2=cut(self.s2), sigma=cut(self.sigma), source=cut(self.source), age=cut(self.age))

    def with_sigma(self, per_band: NDArray[np.floating]) -> Guess:
        """The same guess with a constant sigma (C,) per band, in reflectance."""
        return replace(self, sigma=np.asarray(per_band, np.float32)[:, None, None])


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is left hidden rather than guessed, and whether pixels without data are rebuilt too."""

    max_age: int | None = None  # days; an unknown age counts as older
    max_sigma: float | None = None  # reflectance, of the worst band; an unknown sigma counts as larger
    prior: bool = True  # False refuses pixels that rest on a prior only
    nodata: bool = False  # True: pixels where the target date has no data are rebuilt like hidden ones


KEEP_ALL = Limits()


@dataclass(frozen=True, kw_only=True)
class Block:
    """One finished window of a product. Coarse layers have their own, smaller arrays."""

    window: Window  # in scene pixels
    clear: tuple[NDArray[Any], ...]  # per layer (C, h, w), native DN
    delivered: tuple[NDArray[Any], ...]  # per layer (C, h, w), DN as read; for previews, not kept
    mask: NDArray[np.uint8]  # (h, w) codes of Cover as finally used
    source: NDArray[np.uint8]  # (h, w) codes of Source
    sigma: NDArray[np.uint16]  # (C, h, w) reflectance x 10000; observed 0, unknown 65535
    age: NDArray[np.int16]  # (h, w) signed days; observed 0, none 32767

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The pixels of every file, (C, h, w) each, in the order of `product.planes`."""
        return (*self.clear, self.source[None], self.mask[None], self.sigma, self.age[None])

    def pixels(self) -> dict[str, int]:
        """How many pixels come from each source."""
        counts = np.bincount(self.source.ravel(), minlength=len(Source))
        return {code.name.lower(): int(counts[code]) for code in Source}


def fill(
    scene: Scene,
    date: np.datetime64,
    window: Window,
    classes: NDArray[np.uint8],
    guess: Guess | None,
    *,
    layers: tuple[Layer, ...] | None = None,
    limits: Limits = KEEP_ALL,
) -> Block:
    """The block of `window`: `classes` (h, w) codes of Cover, `guess` for the window or None (nothing to rebuild with).

    A pixel that is clear (or snow) keeps its DN. A hidden pixel gets the DN of its guess, or no data where the guess is refused
    (NaN, a source of REFUSED, or beyond `limits`): never the cloud. A pixel without data stays so unless `limits.nodata`.
    A coarse pixel is observed when nothing beneath it is hidden, else it is the mean guess over the hidden pixels beneath.
    Of a pixel without data some bands may have been measured: these keep their DN, rebuilt or not, with a sigma of 0.
    `layers`: how the clear image is stored, from `layers_of`. Raises RecordError where shapes or codes cannot be right.
    """
    i = scene.index(date)
    stored = scene.source.layers(i) if layers is None else layers
    delivered = tuple(read_counts(scene, i, layer, native_window(window, layer.factor)) for layer in stored)
    _check(classes, guess, window, len(scene.place.bands))
    used = np.where(_measured(delivered, stored, window), classes, np.uint8(Cover.NODATA))
    hidden: NDArray[np.bool_] = np.asarray(HIDING[used])
    if used.all() and not hidden.any():
        return _observed(scene, window, delivered, used)
    if limits.nodata:
        hidden = hidden | (used == Cover.NODATA)
    kept = hidden & ~_refused(guess, limits, hidden)
    source = _source(guess, used, hidden, kept)
    clear = tuple(
        _fill_layer(
            layer, dn, window, hidden, kept, source == Source.NODATA, None if guess is None else guess.s2[_at(scene, layer)]
        )
        for layer, dn in zip(stored, delivered, strict=True)
    )
    sigma = _sigma(scene, stored, guess, window, hidden, kept, source)
    if (partly := _partly_measured(scene, delivered, stored, window, used)).any():
        for layer, dn, made in zip(stored, delivered, clear, strict=True):
            seen = _seen_bands(layer, dn, window, partly, np.asarray(HIDING[used]))
            np.copyto(made, dn, where=seen)
            sigma[_at(scene, layer)] = np.where(
                spread(seen, layer.factor, window) & partly, np.uint16(0), sigma[_at(scene, layer)]
            )
    return Block(
        window=window, clear=clear, delivered=delivered, mask=used, source=source, sigma=sigma, age=_age(guess, source, kept),
    )  # fmt: skip


def _observed(scene: Scene, window: Window, delivered: tuple[NDArray[Any], ...], used: NDArray[np.uint8]) -> Block:
    """A block of which every pixel was seen. What is one value everywhere takes the memory of one."""
    return Block(
        window=window, clear=delivered, delivered=delivered, mask=used,
        source=np.broadcast_to(np.uint8(Source.OBSERVED), used.shape),
        sigma=np.broadcast_to(np.uint16(0), (len(scene.place.bands), *used.shape)),
        age=np.broadcast_to(np.int16(0), used.shape),
    )  # fmt: skip


def layers_of(scene: Scene, date: np.datetime64, resolution: float | None = None) -> tuple[Layer, ...]:
    """How the clear product is stored: as the input is, or (`resolution` given) one layer on the scene grid.

    Raises UsageError for a resolution that is not the scene's, InputUnsupported where the layers differ in type or scale.
    """
    layers = scene.source.layers(scene.index(date))
    if resolution is None or all(layer.factor == 1 and layer.name == "" for layer in layers):
        _check_resolution(scene, resolution)
        return layers
    _check_resolution(scene, resolution)
    kinds = {(layer.dtype, repr(layer.nodata), layer.quantification) for layer in layers}
    if len(kinds) > 1:
        raise InputUnsupported(
            "The bands cannot be written as one file.",
            why=f"their resolutions are stored with different types, nodata or scale: {sorted(map(str, kinds))}.",
            do="leave out --res to write one file per resolution.",
        )
    place = {band: (layer, n) for layer in layers for n, band in enumerate(layer.bands)}
    picked = [place[band] for band in scene.place.bands]

    def per_band(name: str) -> tuple[Any, ...]:
        values = [(getattr(layer, name), n) for layer, n in picked]
        return tuple(v[n] for v, n in values) if all(v for v, _ in values) else ()

    return (
        replace(
            layers[0], name="", bands=scene.place.bands, shape=scene.shape, grid=scene.place.grid, factor=1,
            offset=per_band("offset"), descriptions=per_band("descriptions"), scale_tags=per_band("scale_tags"),
            offset_tags=per_band("offset_tags"), tags=layers[0].tags,
        ),
    )  # fmt: skip


def _check_resolution(scene: Scene, resolution: float | None) -> None:
    if resolution is None or scene.place.grid is None:
        return
    own = abs(scene.place.grid.resolution.x)
    if abs(resolution - own) > 1e-6 * own:
        raise UsageError(
            f"--res {resolution:g} cannot be written.",
            why=f"the scene has pixels of {own:g}; observed pixels are kept bit for bit, so they are never averaged.",
            do=f"use --res {own:g} for one file, or leave --res out for the native resolutions.",
        )


def read_counts(scene: Scene, i: int, layer: Layer, at: Window) -> NDArray[Any]:
    """DN (C, h, w) of a layer of `layers_of`, the window in its own pixels; coarse bands repeated where layers were joined."""
    own = scene.source.layers(i)
    if any(layer.name == o.name and layer.bands == o.bands for o in own):
        return scene.source.counts(i, layer, at)
    bands: dict[str, NDArray[Any]] = {}
    for part in own:
        dn = scene.source.counts(i, part, native_window(at, part.factor))
        bands |= dict(zip(part.bands, spread(dn, part.factor, at), strict=True))
    return np.stack([bands[band] for band in layer.bands])


def spread(coarse: NDArray[Any], factor: int, window: Window) -> NDArray[Any]:
    """Coarse pixels (..., h, w) covering a scene window -> repeated onto it."""
    if factor == 1:
        return coarse
    top, left = window.row % factor, window.col % factor
    fine = coarse.repeat(factor, axis=-2).repeat(factor, axis=-1)
    return fine[..., top : top + window.height, left : left + window.width]


def _gather(fine: NDArray[Any], factor: int, window: Window) -> NDArray[Any]:
    """The sum of scene pixels (..., h, w) of a window over each coarse pixel; pixels outside the window count nothing."""
    if factor == 1:
        return fine
    at = native_window(window, factor)
    top, left = window.row % factor, window.col % factor
    bottom, right = at.height * factor - top - window.height, at.width * factor - left - window.width
    padded = np.pad(fine, [(0, 0)] * (fine.ndim - 2) + [(top, bottom), (left, right)])
    return padded.reshape(*fine.shape[:-2], at.height, factor, at.width, factor).sum(axis=(-3, -1))


def _check(classes: NDArray[np.uint8], guess: Guess | None, window: Window, bands: int) -> None:
    shape = (window.height, window.width)
    if classes.shape != shape or classes.dtype != np.uint8 or (classes.size and classes.max() >= len(Cover)):
        raise RecordError(f"classes must be {shape} uint8 codes of Cover, got {classes.shape} {classes.dtype}.")
    if guess is None:
        return
    if guess.s2.shape != (bands, *shape):
        raise RecordError(f"The guess has shape {guess.s2.shape}; expected {(bands, *shape)}.")
    if guess.sigma is not None and guess.sigma.shape not in ((bands, *shape), (bands, 1, 1)):
        raise RecordError(f"The guess has sigma of shape {guess.sigma.shape}; expected {(bands, *shape)} or {(bands, 1, 1)}.")
    for name, value in (("source", guess.source), ("age", guess.age)):
        if value is not None and value.shape != shape:
            raise RecordError(f"The guess has {name} of shape {value.shape}; expected {shape}.")


def _at(scene: Scene, layer: Layer) -> list[int]:
    return [scene.place.bands.index(band) for band in layer.bands]


def _measured(delivered: tuple[NDArray[Any], ...], layers: tuple[Layer, ...], window: Window) -> NDArray[np.bool_]:
    """(h, w): at least one band holds data there. A mask file may call a pixel clear that was never measured."""
    measured = np.zeros((window.height, window.width), bool)
    for dn, layer in zip(delivered, layers, strict=True):
        for band in dn:
            if measured.all():
                return measured
            measured |= spread(is_valid(band, layer.nodata), layer.factor, window)
    return measured


def _partly_measured(
    scene: Scene, delivered: tuple[NDArray[Any], ...], layers: tuple[Layer, ...], window: Window, used: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """(h, w): counts as without data, but only because some of its bands were not measured."""
    nothing: NDArray[np.bool_] = np.asarray(used == Cover.NODATA)
    if not nothing.any() or "outline" in scene.decisions.get("grid", {}):  # what lies outside an area is not wanted
        return np.zeros_like(nothing)
    some, every = np.zeros_like(nothing), np.ones_like(nothing)
    for dn, layer in zip(delivered, layers, strict=True):
        for band in dn:
            valid = spread(is_valid(band, layer.nodata), layer.factor, window)
            some |= valid
            every &= valid
    return nothing & some & ~every


def _seen_bands(
    layer: Layer, dn: NDArray[Any], window: Window, partly: NDArray[np.bool_], cloud: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(C, h, w) of one layer: measured in pixels that were so in part, and nothing beneath lies under a cloud."""
    own = (_gather(partly.astype(np.int32), layer.factor, window) > 0) & (
        _gather(cloud.astype(np.int32), layer.factor, window) == 0
    )
    return np.stack([own & is_valid(band, layer.nodata) for band in dn])


def _refused(guess: Guess | None, limits: Limits, hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(h, w): no guess, or one that the limits do not allow."""
    if guess is None:
        return np.ones_like(hidden)
    refused = ~np.isfinite(guess.s2).all(0)
    if guess.source is not None:
        refused |= guess.source == Source.REFUSED
        if not limits.prior:
            refused |= guess.source == Source.PRIOR
    if limits.max_age is not None:
        age = np.full(hidden.shape, NO_AGE, np.int16) if guess.age is None else guess.age
        refused |= np.abs(age.astype(np.int32)) > limits.max_age
    if limits.max_sigma is not None:
        known = np.zeros_like(hidden) if guess.sigma is None else (guess.sigma <= limits.max_sigma).all(0)
        refused = refused | ~known
    return np.asarray(refused)


def _source(
    guess: Guess | None, used: NDArray[np.uint8], hidden: NDArray[np.bool_], kept: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    source = np.where(used == Cover.NODATA, np.uint8(Source.NODATA), np.uint8(Source.OBSERVED))
    source[hidden] = Source.REFUSED
    source[kept] = Source.DATES if guess is None or guess.source is None else guess.source[kept]
    if wrong := set(np.unique(source[kept]).tolist()) - REBUILT:
        raise RecordError(f"The guess gives rebuilt pixels the source codes {sorted(wrong)}; expected {sorted(REBUILT)}.")
    return source


def _fill_layer(
    layer: Layer,
    dn: NDArray[Any],
    window: Window,
    hidden: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    nodata: NDArray[np.bool_],
    guess: NDArray[np.float32] | None,
) -> NDArray[Any]:
    """DN (C, h, w) of one layer with its hidden pixels filled. All arguments but `dn` are on the scene grid."""
    some_kept = _gather(kept.astype(np.int32), layer.factor, window)
    rebuild = some_kept > 0
    empty = (_gather(hidden.astype(np.int32), layer.factor, window) > 0) & ~rebuild
    empty |= _gather((~nodata & ~hidden).astype(np.int32), layer.factor, window) + some_kept == 0
    out = dn.copy()
    out[:, empty] = 0 if layer.nodata is None else layer.nodata
    if guess is not None and rebuild.any():
        out[:, rebuild] = to_counts(
            _means(guess, kept, layer.factor, window)[:, None], dtype=np.dtype(layer.dtype),
            quantification=layer.quantification, offset=layer.offset, nodata=layer.nodata or 0.0,  # 0 is never ground
        )[:, 0]  # fmt: skip
    return out


def _means(values: NDArray[np.float32], kept: NDArray[np.bool_], factor: int, window: Window) -> NDArray[np.float64]:
    """(C, h, w) -> (C, n): the mean over the kept scene pixels, for every pixel of a layer that has any beneath it."""
    if factor == 1:
        return values[:, kept].astype(np.float64)
    share = _gather(kept.astype(np.int32), factor, window)
    total = _gather(np.where(kept, values, np.float32(0)).astype(np.float64), factor, window)
    means: NDArray[np.float64] = total[:, share > 0] / share[share > 0]
    return means


def _sigma(
    scene: Scene,
    layers: tuple[Layer, ...],
    guess: Guess | None,
    window: Window,
    hidden: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    source: NDArray[np.uint8],
) -> NDArray[np.uint16]:
    """Observed 0, rebuilt at least 1, else unknown. Clear pixels beneath a rebuilt coarse one have sigma in its bands."""
    sigma = np.where(source == Source.OBSERVED, np.uint16(0), np.uint16(SIGMA_UNKNOWN))
    out = np.repeat(sigma[None], len(scene.place.bands), axis=0)
    stated = None if guess is None or guess.sigma is None else np.broadcast_to(guess.sigma, guess.s2.shape)
    for layer in layers:
        touched = spread(_gather(hidden.astype(np.int32), layer.factor, window) > 0, layer.factor, window)
        at = _at(scene, layer)
        beneath = touched & (source == Source.OBSERVED)
        for band in at:
            out[band][beneath] = SIGMA_UNKNOWN
        if stated is not None:
            rebuilt = _gather(kept.astype(np.int32), layer.factor, window) > 0
            codes = np.full((len(at), *rebuilt.shape), SIGMA_UNKNOWN, np.uint16)
            codes[:, rebuilt] = _coded(_means(stated[at], kept, layer.factor, window))
            told = touched & (source != Source.NODATA) & (source != Source.REFUSED)
            for band, code in zip(at, spread(codes, layer.factor, window), strict=True):
                np.copyto(out[band], code, where=told & (code != SIGMA_UNKNOWN))
    return out


def _coded(sigma: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Reflectance -> code of the sigma map: rebuilt at least 1; NaN is unknown."""
    known = np.isfinite(sigma)
    rounded = np.clip(np.rint(np.where(known, sigma, 0) * SIGMA_UNIT), 1, SIGMA_UNKNOWN - 1)
    return np.where(known, rounded, SIGMA_UNKNOWN).astype(np.uint16)


def _age(guess: Guess | None, source: NDArray[np.uint8], kept: NDArray[np.bool_]) -> NDArray[np.int16]:
    age = np.where(source == Source.OBSERVED, np.int16(0), np.int16(NO_AGE))
    if guess is not None and guess.age is not None:
        age = np.where(kept, guess.age.astype(np.int16), age)
    return age
