"""The probe: hide small clear patches of the date, rebuild them, and state the error of this very product.

Where the date has too few clear pixels (it may be fully covered), another date stands in: it is hidden as a whole and a few
patches of it are rebuilt; the result says so. A remover without a sigma of its own gets a conformal constant per band from
the probe's errors (split conformal prediction, Vovk et al. 2005: the ceil((n + 1) p)-th smallest absolute error).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.sample import HIDING, Batch, Cover, Window, around, as_day

if TYPE_CHECKING:
    from unclouded.models.needs import CloudRemover
    from unclouded.scenes.scene import Scene

LEVEL = 0.9  # nominal coverage that the probe checks and the constant is made for
Z90 = 1.6448536269514722  # standard normal quantile of (1 + 0.9) / 2

SIDES = (48, 24, 12)  # patch side in pixels, the largest that fits first
PATCHES = 24
MIN_PATCHES = 4
MIN_CLEAR = 0.98  # of a patch
AREA = 256  # pixels: patches in one square of this side are read together
MAX_HIDDEN_SHARE = 0.25  # of the clear pixels of the date: the probe must not starve the fit


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was measured on hidden clear patches. Errors in reflectance, one number per band (C,)."""

    kind: Literal["target", "other date", "none"]
    date: str | None
    patches: int = 0
    pixels: int = 0
    rmse: tuple[float, ...] = ()
    mae: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()
    coverage: tuple[float, ...] | None = None  # share of |error| <= z * sigma at the 90 % level, where the remover has a sigma
    width: tuple[float, ...] | None = None  # mean width of that interval
    constant: tuple[float, ...] | None = None  # conformal sigma per band

    @property
    def sigma_source(self) -> Literal["model", "probe", "unchecked"]:
        """Whose sigma the product carries: the model's own, the constant from here, or nobody could measure it."""
        return "model" if self.coverage is not None else "probe" if self.constant is not None else "unchecked"

    def summary(self) -> dict[str, Any]:
        """For the manifest: plain numbers."""

        def rounded(values: tuple[float, ...] | None) -> list[float] | None:
            return None if values is None else [round(v, 6) for v in values]

        return {
            "kind": self.kind, "date": self.date, "patches": self.patches, "pixels": self.pixels,
            "rmse": rounded(self.rmse), "mae": rounded(self.mae), "bias": rounded(self.bias),
            "psnr_db": None if not self.pixels else round(float(-10 * np.log10(np.mean(np.square(self.rmse)) + 1e-12)), 2),
            "level": LEVEL, "coverage": rounded(self.coverage), "interval_width": rounded(self.width),
            "conformal_sigma": rounded(self.constant),
        }  # fmt: skip


NO_PROBE = Probe(kind="none", date=None)  # nothing could be measured, or nothing was rebuilt


def measure(model: CloudRemover, scene: Scene, date: np.datetime64, *, seed: int = 0) -> Probe:
    """Rebuild hidden clear patches of `date` (or of a stand-in date) with `model`, adapted to the scene without them."""
    i = scene.index(date)
    patches = _patches(scene, i, seed)
    if len(patches) >= MIN_PATCHES:
        return _score(model, scene, i, patches, scene.veiled(i, patches), "target")
    stand_in = _stand_in(scene, i)
    if stand_in is None:
        return NO_PROBE
    patches = _patches(scene, stand_in, seed)
    scene.let_go()
    return _score(model, scene, stand_in, patches, scene.veiled(stand_in, [scene.window]), "other date")


def _clear(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return ~HIDING[classes] & (classes != Cover.NODATA)


def _patches(scene: Scene, i: int, seed: int) -> list[Window]:
    """Clear squares of date i, spread by a seeded draw; the largest side of which enough fit."""
    assert scene.masks is not None
    clear = _clear(np.asarray(scene.masks[i]))
    total = int(clear.sum())
    found: list[Window] = []
    for side in SIDES:
        rows, cols = (n // side for n in scene.shape)
        if not rows or not cols:
            continue
        share = clear[: rows * side, : cols * side].reshape(rows, side, cols, side).mean((1, 3))
        cells = np.argwhere(share >= MIN_CLEAR)
        np.random.default_rng(seed).shuffle(cells)
        most = min(PATCHES, int(MAX_HIDDEN_SHARE * total / side**2))
        found = [Window(int(r) * side, int(c) * side, side, side) for r, c in cells[:most]]
        if len(found) >= 2 * MIN_PATCHES:
            break
    return found


def _stand_in(scene: Scene, i: int) -> int | None:
    """The other date that is clear enough to be hidden as a whole, the nearest in time first."""
    assert scene.masks is not None
    gaps = np.abs((scene.dates - scene.dates[i]).astype(int))
    shares = np.asarray([_clear(np.asarray(m)).mean() for m in scene.masks])
    fit = [j for j in np.argsort(gaps, kind="stable") if j != i and shares[j] >= 0.5]
    return next((int(j) for j in fit if len(_patches(scene, int(j), 0)) >= MIN_PATCHES), None)


def _score(
    model: CloudRemover, scene: Scene, i: int, patches: list[Window], veiled: Scene, kind: Literal["target", "other date"]
) -> Probe:
    day = scene.dates[i]
    remover = model.adapt(veiled, day)
    errors, sigmas = [], []
    for patch, (s2, sigma) in zip(patches, _predicted(remover, veiled, patches, day), strict=True):
        truth = scene.read(patch, only=[i])
        assert scene.masks is not None
        seen = _clear(np.asarray(scene.masks[(i, *patch.slices)])) & truth.s2_valid[0] & np.isfinite(s2).all(0)
        errors.append((s2 - truth.s2[0])[:, seen])
        if sigma is not None:
            sigmas.append(sigma[:, seen])
    error = np.concatenate(errors, axis=1)
    if not error.shape[1]:
        return NO_PROBE
    size = np.abs(error)
    half = Z90 * np.concatenate(sigmas, axis=1) if sigmas else None
    return Probe(
        kind=kind, date=str(as_day(day)), patches=len(patches), pixels=error.shape[1],
        rmse=_tuple(np.sqrt((error**2).mean(1))), mae=_tuple(size.mean(1)), bias=_tuple(error.mean(1)),
        coverage=None if half is None else _tuple((size <= half).mean(1)),
        width=None if half is None else _tuple(2 * half.mean(1)),
        constant=_tuple(conformal_sigma(size)),
    )  # fmt: skip


def _predicted(
    remover: CloudRemover, scene: Scene, patches: list[Window], date: np.datetime64
) -> list[tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
    """What the remover makes of every patch. Where tiles agree exactly, patches that lie near each other are read at once."""
    needs = remover.needs
    together = needs.tile is None and needs.tiling == "exact" and needs.multiple_of == 1
    found = {}
    for lot in _neighbours(patches, AREA) if together else [[patch] for patch in patches]:
        outer = around(lot)
        s2, sigma = predict(remover, scene, outer, date)
        for patch in lot:
            at = (slice(None), *patch.inside(outer).slices)
            found[patch] = s2[at].copy(), None if sigma is None else sigma[at].copy()
    return [found[patch] for patch in patches]


def _neighbours(patches: list[Window], side: int) -> list[list[Window]]:
    """The patches by the square of `side` pixels that holds their first pixel."""
    lots: dict[tuple[int, int], list[Window]] = {}
    for patch in patches:
        lots.setdefault((patch.row // side, patch.col // side), []).append(patch)
    return list(lots.values())


def predict(
    remover: CloudRemover, scene: Scene, window: Window, date: np.datetime64
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """One window of a scene through an adapted remover: reflectance (C, h, w) and sigma (C, h, w) or None."""
    outer = remover.needs.outer(window, scene)
    prediction = remover(Batch.stack([scene.read(outer, target=as_day(date))]))
    at = (0, slice(None), *window.inside(outer).slices)
    return prediction.s2[at].numpy(), None if prediction.sigma is None else prediction.sigma[at].numpy()


def conformal_sigma(size: NDArray[np.floating]) -> NDArray[np.float64]:
    """Absolute errors (C, N) -> sigma (C,) such that +- z sigma at the 90 % level is the split-conformal interval."""
    n = size.shape[1]
    k = min(int(np.ceil((n + 1) * LEVEL)), n)
    return np.sort(size, axis=1)[:, k - 1].astype(np.float64) / Z90


def _tuple(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
