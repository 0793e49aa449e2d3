"""The parts of an image that papers score apart, from class maps of a cloud detector; and the bins of cloud cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unclouded.sample import HIDING, Cover

Mask = NDArray[np.bool_]  # (H, W)

TENTHS = tuple(n / 10 for n in range(11))  # Ebel 2022 Table V
FIFTHS = tuple(n / 5 for n in range(6))  # Xu 2022 Fig. 6


@dataclass(frozen=True)
class Areas:
    """Masks (H, W) by what lies over the ground in the input. `all` is None: every pixel.

    What was not measured is neither hidden nor clear: of the scored input it is in no area but `all`, and of several inputs
    those count in which a pixel was measured.

    - hidden: cloud or shadow in the scored input: the reconstruction of Meraner 2020 Table 1, cloudy of Darbaghshahi Table 4
    - clear: measured and not hidden: the reproduction of Meraner Table 1, non-cloudy of Darbaghshahi Table 4
    - cloud, shadow: the two kinds apart
    - measured: the scored input has a value there; cover is the share of these pixels that is hidden
    - covered_in_all: visible in no input: what Ebel 2022 IV-A calls cloudy ("visible in neither of any input")
    - covered_in_any: hidden in at least one input: what its code calls cloudy
    - seen_in_any, seen_in_all: the rest of what any input measured, the two meanings of cloud-free there
    """

    hidden: Mask
    cloud: Mask
    shadow: Mask
    covered_in_all: Mask
    covered_in_any: Mask
    measured: Mask
    ever: Mask  # measured in any input

    @staticmethod
    def of(classes: NDArray[np.uint8], index: int = 0) -> Areas:
        """From class maps (T, H, W), codes of Cover, of all inputs; `index`: the input whose hidden pixels are to be filled."""
        covered, known = HIDING[classes], classes != Cover.NODATA
        shadow = classes[index] == Cover.SHADOW
        return Areas(
            hidden=covered[index], cloud=covered[index] & ~shadow, shadow=shadow,
            covered_in_all=np.asarray((covered | ~known).all(0) & known.any(0)), covered_in_any=np.asarray(covered.any(0)),
            measured=known[index], ever=np.asarray(known.any(0)),
        )  # fmt: skip

    @property
    def cover(self) -> float:
        """The share of the scored input that is hidden, of what was measured; NaN where nothing was."""
        return float(self.hidden[self.measured].mean()) if self.measured.any() else float("nan")

    def named(self, name: str) -> Mask | None:
        """The mask of an area by name (see above); None for `all`. Raises KeyError for another name."""
        if name == "all":
            return None
        if name in _COMPLEMENTS:
            part, whole = _COMPLEMENTS[name]
            rest: Mask = getattr(self, whole) & ~getattr(self, part)
            return rest
        if name not in _OWN:
            raise KeyError(f"There is no area '{name}'; areas are: {', '.join(AREAS)}.")
        mask: Mask = getattr(self, name)
        return mask


_OWN = ("hidden", "cloud", "shadow", "covered_in_all", "covered_in_any")
_COMPLEMENTS = {
    "clear": ("hidden", "measured"), "seen_in_any": ("covered_in_all", "ever"), "seen_in_all": ("covered_in_any", "ever"),
}  # fmt: skip
AREAS = ("all", *_OWN, *_COMPLEMENTS)


def adaptive_target(target: NDArray[np.floating], given: NDArray[np.floating], hidden: Mask) -> NDArray[np.floating]:
    """The target where the input hides the ground, the input elsewhere (C, H, W): what CARL compares with (Meraner eq. 3).

    The mean absolute error against it is the adaptive part of CARL; CARL is that plus lambda times the plain one.
    """
    return np.where(hidden, target, given)


def bin_of(share: float, edges: Sequence[float]) -> int:
    """The bin of a cover share: [edge, next edge), the last one closed. -1 for NaN or outside."""
    if not edges[0] <= share <= edges[-1]:
        return -1
    return min(int(np.searchsorted(edges, share, side="right")) - 1, len(edges) - 2)


def bin_names(edges: Sequence[float]) -> tuple[str, ...]:
    """'0-10 %', '10-20 %', ..."""
    return tuple(f"{100 * a:.0f}-{100 * b:.0f} %" for a, b in pairwise(edges))
