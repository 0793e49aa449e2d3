"""A prediction beside its reference: what every metric is given, with the maps that several of them share computed once."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import RecordError

Image = NDArray[np.float32]  # (C, H, W)
Mask = NDArray[np.bool_]  # (H, W)
Sums = NDArray[np.float64]  # what a metric adds up


class Pair:
    """Two images (C, H, W) in reflectance to be compared, and where they can be.

    A pixel counts where it is finite in every band of both images (and of `sigma`), and `valid` if that is given. What lies
    under other pixels never enters a number: it is replaced by 0 before anything is computed.
    Raises RecordError where shapes disagree.
    """

    def __init__(
        self,
        prediction: NDArray[np.floating],
        target: NDArray[np.floating],
        valid: Mask | None = None,
        *,
        bands: tuple[str, ...] = (),
        sigma: NDArray[np.floating] | None = None,
    ) -> None:
        self._check(prediction, target, valid, bands, sigma)
        seen = np.isfinite(prediction).all(0) & np.isfinite(target).all(0)
        if sigma is not None:
            seen &= np.isfinite(sigma).all(0)
        self.seen: Mask = seen if valid is None else seen & valid
        self.whole = bool(self.seen.all())
        self.prediction = self._known(prediction)
        self.target = self._known(target)
        self.sigma = None if sigma is None else self._known(sigma)
        self.bands = bands
        self.kept: dict[object, NDArray[np.float32]] = {}  # maps of other modules, by their settings

    @staticmethod
    def _check(
        prediction: NDArray[np.floating],
        target: NDArray[np.floating],
        valid: Mask | None,
        bands: tuple[str, ...],
        sigma: NDArray[np.floating] | None,
    ) -> None:
        if prediction.ndim != 3 or prediction.shape != target.shape:
            raise RecordError(f"A pair needs two images (C, H, W) of one shape; got {prediction.shape} and {target.shape}.")
        if valid is not None and valid.shape != target.shape[1:]:
            raise RecordError(f"valid has shape {valid.shape}; expected {target.shape[1:]}.")
        if sigma is not None and sigma.shape != target.shape:
            raise RecordError(f"sigma has shape {sigma.shape}; expected {target.shape}.")
        if bands and len(bands) != len(target):
            raise RecordError(f"{len(bands)} band names for {len(target)} bands.")

    def _known(self, image: NDArray[np.floating]) -> Image:
        known = np.asarray(image, np.float32)
        return known if self.whole else np.where(self.seen, known, np.float32(0))

    @cached_property
    def error(self) -> Image:
        """Prediction minus target (C, H, W)."""
        return self.prediction - self.target

    @cached_property
    def absolute(self) -> Image:
        """Absolute error (C, H, W)."""
        return np.abs(self.error)

    @cached_property
    def squared(self) -> Image:
        """Squared error (C, H, W)."""
        return np.square(self.error)

    def select(self, at: list[int]) -> Pair:
        """The same pair with some of its bands; SSIM maps, which stand band by band, are kept."""
        part = object.__new__(Pair)
        part.seen, part.whole = self.seen, self.whole
        part.prediction, part.target = self.prediction[at], self.target[at]
        part.sigma = None if self.sigma is None else self.sigma[at]
        part.bands = tuple(self.bands[k] for k in at) if self.bands else ()
        part.kept = {key: layers[at] for key, layers in self.kept.items() if layers.ndim == 3}
        return part

    def where(self, area: Mask | None) -> Mask:
        """The pixels of an area (H, W) that count."""
        return self.seen if area is None else self.seen & area

    def count(self, area: Mask | None) -> int:
        """How many pixels of an area count."""
        return int(np.count_nonzero(self.where(area)))

    def sums(self, layers: NDArray[np.float32], area: Mask | None) -> Sums:
        """The sum of each layer (N, H, W) over the pixels of an area that count: (N,)."""
        flat = layers.reshape(len(layers), -1)
        if area is None:  # what does not count is 0 already
            return np.asarray(flat.sum(1), np.float64)
        return np.asarray(flat @ self.where(area).ravel().astype(np.float32), np.float64)

    def bands_at(self, names: tuple[str, ...]) -> list[int]:
        """Positions of bands by name. Raises RecordError for one that the images lack."""
        missing = [name for name in names if name not in self.bands]
        if missing:
            raise RecordError(f"The images have no band {', '.join(missing)}; they have {', '.join(self.bands) or 'no names'}.")
        return [self.bands.index(name) for name in names]


class Metric(Protocol):
    """One metric with all its conventions: a frozen dataclass whose fields are the conventions."""

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """Sums over one image; the sums of several images are added."""
        ...

    def value(self, sums: Sums) -> float:
        """The number that the sums stand for; NaN for an empty set."""
        ...


@runtime_checkable
class SetMetric(Protocol):
    """A metric whose number is not a function of added sums: it sees the sums of all images apart."""

    def over(self, states: Sums) -> float:
        """The number of a set of images (N, K)."""
        ...


def measure(metric: Metric, pair: Pair, area: Mask | None = None) -> float:
    """One number for one image and area."""
    return metric.value(metric.state(pair, area))


def ratio(part: float, whole: float) -> float:
    """A quotient; NaN over an empty set."""
    return part / whole if whole > 0 else float("nan")
