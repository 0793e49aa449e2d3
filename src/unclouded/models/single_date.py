"""What every single-date network shares: from a Batch to one clean frame, through the network, to a Prediction.

The frame is that of the target date. Radar is paired per pixel with the acquisition nearest in time that measured the pixel.
Pixels that were not measured become constants before anything is computed (reflectance 0, backscatter far below every
network's clip, cloud 1), so what lies under them cannot leak. Any size works: the frame is mirrored up to the multiple that
the network needs, and the result is cut back.

Networks start in evaluation mode and then keep no gradients; `remover.network.train()` switches both on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from unclouded.errors import InputUnsupported
from unclouded.models.scaling import scale_optical, unscale_optical
from unclouded.models.weights import fit
from unclouded.sample import Batch, Prediction, Source
from unclouded.units import DB_FLOOR

if TYPE_CHECKING:
    import numpy as np

    from unclouded.models.needs import Needs
    from unclouded.scenes.scene import Scene

FILL_REFLECTANCE = 0.0  # what stands where nothing was measured; the bottom of every network's range
FILL_DB = DB_FLOOR
NEVER = 2**30  # days: an acquisition that did not measure the pixel


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One date without holes: s2 (B, C, H, W) reflectance, s1 (B, 2, H, W) dB or None, cloud (B, 1, H, W) or None."""

    s2: Tensor
    s1: Tensor | None = None
    cloud: Tensor | None = None

    @property
    def radar(self) -> Tensor:
        """s1 where the network has it required. Raises InputUnsupported without radar."""
        if self.s1 is None:
            raise InputUnsupported("This model needs Sentinel-1 radar and there is none.", do="give --s1 SERIES.")
        return self.s1

    @property
    def cloud_map(self) -> Tensor:
        """cloud where the network has it required. Raises InputUnsupported without a mask."""
        if self.cloud is None:
            raise InputUnsupported("This model needs cloud masks and there are none.", do="give --mask auto or a file.")
        return self.cloud

    def mirrored(self, multiple: int, least: int = 1) -> Frame:
        """Grown at the bottom and right, by mirroring, to a multiple of `multiple` pixels and at least `least`."""
        h, w = (-(-max(n, least) // multiple) * multiple for n in self.s2.shape[-2:])
        if (h, w) == tuple(self.s2.shape[-2:]):
            return self
        s1 = None if self.s1 is None else mirror_to(self.s1, h, w)
        cloud = None if self.cloud is None else mirror_to(self.cloud, h, w)
        return replace(self, s2=mirror_to(self.s2, h, w), s1=s1, cloud=cloud)


def mirror_to(image: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W) grown to (height, width) by mirroring without repeating the edge, as often as it takes."""
    rows = _mirrored_index(image.shape[-2], height, image.device)
    cols = _mirrored_index(image.shape[-1], width, image.device)
    return image.index_select(-2, rows).index_select(-1, cols)


def _mirrored_index(size: int, wanted: int, device: torch.device) -> Tensor:
    period = max(2 * size - 2, 1)
    index = torch.arange(wanted, device=device) % period
    return torch.where(index < size, index, period - index)


def target_frame(batch: Batch) -> Frame:
    """The frame of the target date. Raises InputUnsupported where the target date is not among the inputs."""
    at, rows = _target_index(batch), torch.arange(len(batch), device=batch.s2.device)
    valid = batch.s2_valid[rows, at][:, None]
    cloud = None if batch.cloud is None else torch.where(valid, batch.cloud[rows, at][:, None], 1.0)
    s1 = None if batch.s1 is None else nearest_radar(batch, batch.s2_days[rows, at])[0]
    return Frame(s2=torch.where(valid, batch.s2[rows, at], FILL_REFLECTANCE), s1=s1, cloud=cloud)


def _target_index(batch: Batch) -> Tensor:
    if batch.s2.shape[1] == 1:
        return torch.zeros(len(batch), dtype=torch.int64, device=batch.s2.device)
    if batch.target_index is None or bool((batch.target_index < 0).any()):
        raise InputUnsupported(
            "This model restores an image from itself; the target date is not among the inputs.",
            why=f"there are {batch.s2.shape[1]} dates and target_index names none of them.",
            do="feed the cloudy image of the target date, or use a model for time series.",
        )
    return batch.target_index


def nearest_radar(batch: Batch, days: Tensor) -> tuple[Tensor, Tensor]:
    """Per pixel the acquisition nearest to `days` (B,) that measured it: dB (B, 2, H, W), filled with FILL_DB, and validity.

    Of two equally near acquisitions the earlier one is taken.
    """
    assert batch.s1 is not None and batch.s1_valid is not None and batch.s1_days is not None
    gap = (batch.s1_days - days[:, None]).abs().to(torch.int32)
    gap = torch.where(batch.s1_valid, gap[..., None, None], NEVER)  # (B, T1, H, W)
    nearest, index = gap.min(dim=1, keepdim=True)
    s1 = batch.s1.gather(1, index[:, :, None].expand(-1, -1, 2, -1, -1))[:, 0]
    valid = nearest[:, 0] < NEVER
    return torch.where(valid[:, None], s1, FILL_DB), valid


def build(network: Callable[[], nn.Module]) -> nn.Module:
    """A network without touching global random state (torch draws start values when layers are made)."""
    with torch.random.fork_rng(devices=[]):
        return network()


class SingleDate(ABC):
    """A network that restores one image from itself (and radar), as a CloudRemover.

    `weights`: a state dict with the network's parameter names, loaded strictly (InputUnsupported names what does not fit).
    Without weights the network starts from `seed` as its paper says. A subclass states `optical_range`, the network's range
    of reflectance 0..1, and `inputs`; those whose network returns more than the image also state `image`.
    """

    config: Any  # the model's own dataclass
    needs: Needs
    network: nn.Module
    optical_range: tuple[float, float]
    smallest: int = 1  # pixels: the least side that the network's mirrored borders allow
    half: bool = False  # bfloat16 arithmetic; see `fast`

    def _start(
        self,
        network: Callable[[], nn.Module],
        start: Callable[[nn.Module, int], None],
        weights: Mapping[str, Tensor] | None,
        seed: int,
    ) -> None:
        self.network = build(network)
        if weights is not None:
            fit(self.network, weights)
        elif not next(self.network.parameters()).is_meta:
            start(self.network, seed)
        self.network.eval()

    @property
    def unused(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that the published network holds but never uses."""
        return ()

    @abstractmethod
    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """A frame in physical units -> what the network takes, in its own ranges."""

    def image(self, output: Any) -> Tensor:
        """The restored image (B, C, H, W) out of what the network returns, still in `optical_range`."""
        image: Tensor = output
        return image

    def optical(self, s2: Tensor) -> Tensor:
        """Reflectance, clipped to [0, 1] -> the network's range: for inputs and, in training, for truth."""
        return scale_optical(s2, *self.optical_range)

    def restore(self, frame: Frame) -> Tensor:
        """A frame whose sides are multiples of `needs.multiple_of` -> reflectance (B, C, H, W)."""
        return unscale_optical(self.image(self.network(*self.inputs(frame))).float(), *self.optical_range)

    def example(self, side: int) -> Frame:
        """A frame of this network's channels, side x side: for counting and exporting."""
        s2 = torch.full((1, len(self.needs.bands or ()), side, side), 0.1)
        s1 = None if self.needs.sar == "unused" else torch.full((1, 2, side, side), -12.0)
        return Frame(s2=s2, s1=s1, cloud=torch.zeros(1, 1, side, side) if self.needs.cloud else None)

    def __call__(self, batch: Batch) -> Prediction:
        """The target date restored: every pixel, reflectance, not clipped. Raises InputUnsupported where `needs` is not met."""
        self.needs.check_batch(batch)
        h, w = batch.shape
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.network.training), self._arithmetic(batch.s2.device):
            s2 = self.restore(target_frame(batch).mirrored(self.needs.multiple_of, self.smallest))
        return Prediction(s2=s2[..., :h, :w], source=self._source(batch))

    def adapt(self, scene: Scene, date: np.datetime64) -> Self:
        """The same remover: a network does not learn the place."""
        return self

    def fast(self) -> Self:
        """Faster, slightly less exact arithmetic: channels last, and bfloat16 where the processor computes with it.

        The change stays below 0.01 reflectance (root mean square) for every network of the table.
        """
        self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.half = has_bfloat16(next(self.network.parameters()).device)
        return self

    def _arithmetic(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.half)

    def _source(self, batch: Batch) -> Tensor:
        alone = torch.full((len(batch), *batch.shape), Source.SAME_IMAGE, dtype=torch.uint8, device=batch.s2.device)
        if self.needs.sar == "unused" or batch.s1_valid is None:
            return alone
        return torch.where(batch.s1_valid.any(dim=1), torch.tensor(Source.SAR, dtype=torch.uint8, device=alone.device), alone)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (AVX512-BF16; any CUDA device that torch says does)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
