"""Physical units into the ranges networks were trained in, and back. The field's scalings differ; each is named where used.

Clips: reflectance to [0, 1] (digital numbers 0..10000); VV to [-25, 0] dB; VH to [-32.5, 0] dB (Meraner et al. 2020, section
4.1; Xu et al. 2022, section 5.1) or to [-25, 0] dB (the GANs of Meraner et al. 2020, section 4.3, and UnCRtainTS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

VV_VH = (-25.0, -32.5)  # dB: the floor of each band
BOTH_25 = (-25.0, -25.0)


def scale_optical(s2: Tensor, low: float, high: float) -> Tensor:
    """Reflectance (..., C, H, W), clipped to [0, 1] -> [low, high]."""
    return s2.clamp(0, 1) * (high - low) + low


def unscale_optical(values: Tensor, low: float, high: float) -> Tensor:
    """[low, high] -> reflectance; not clipped."""
    return (values - low) / (high - low)


def scale_radar(s1: Tensor, floors: tuple[float, float], low: float, high: float) -> Tensor:
    """Backscatter in dB (..., 2, H, W), clipped to [floor, 0] per band -> [low, high]."""
    floor = s1.new_tensor(floors)[:, None, None]
    return (s1.clamp(max=0).maximum(floor) / -floor + 1) * (high - low) + low


def unscale_radar(values: Tensor, floors: tuple[float, float], low: float, high: float) -> Tensor:
    """[low, high] -> dB; not clipped. The inverse of `scale_radar` inside the clip."""
    floor = values.new_tensor(floors)[:, None, None]
    return ((values - low) / (high - low) - 1) * -floor
