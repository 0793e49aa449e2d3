"""The trivial predictions of the papers: the cloudy image itself, its radar, the least cloudy input, the mosaic of inputs.

Baselines of a protocol, not methods: they may use the scored date itself, and they fill what nobody saw with a constant, as
published. `unclouded.models` has the averages that a user would want.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unclouded.errors import InputMissing, UsageError
from unclouded.models.needs import Needs
from unclouded.sample import Batch, Prediction

if TYPE_CHECKING:
    import numpy as np
    import torch

    from unclouded.scenes.scene import Scene

NEVER_SEEN = 0.5  # Ebel 2022 IV-B, in reflectance


@dataclass(frozen=True)
class Baseline:
    """A function of a batch as a remover."""

    predict: Callable[[Batch], torch.Tensor]
    needs: Needs = field(default_factory=Needs)

    def __call__(self, batch: Batch) -> Prediction:
        """Reflectance (B, C, H, W)."""
        return Prediction(s2=self.predict(batch))

    def adapt(self, scene: Scene, date: np.datetime64) -> Baseline:
        """Itself."""
        return self


def identity(batch: Batch) -> torch.Tensor:
    """The input of the target date as it is; the least cloudy input where the date is not among them.

    Of a single-date pair: the cloudy image (the row 'S2 cloudy' of Ebel 2020 Table III).
    """
    import torch

    at = least_hidden(batch) if batch.target_index is None else batch.target_index
    at = torch.where(at >= 0, at, least_hidden(batch))
    return batch.s2[torch.arange(len(batch)), at].clone()


def least_hidden(batch: Batch) -> torch.Tensor:
    """(B,) the input with the smallest hidden share, the first of equals."""
    return batch.clear().float().mean((-2, -1)).argmax(1)


def least_cloudy(batch: Batch) -> torch.Tensor:
    """The whole of the least cloudy input (Ebel 2022 IV-B)."""
    import torch

    return batch.s2[torch.arange(len(batch)), least_hidden(batch)].clone()


def mosaicing(batch: Batch) -> torch.Tensor:
    """The mean of the clear inputs of every pixel, 0.5 where there is none (Ebel 2022 IV-B)."""
    import torch

    clear = batch.clear()[:, :, None]
    count = clear.sum(1)
    total = torch.where(clear, batch.s2, 0).sum(1)
    return torch.where(count > 0, total / count.clamp(min=1), NEVER_SEEN)


def mosaicing_as_published(batch: Batch, scale: float, shift: float) -> torch.Tensor:
    """Mosaicing as SEN12MS-CR-TS's test.py has it, in network range (reflectance x scale + shift).

    There a value of exactly 0 counts as cloudy, band by band, and what nobody saw becomes 0.5: in network range, not in
    reflectance.
    """
    import torch

    network = batch.s2 * scale + shift
    seen = batch.clear()[:, :, None] & (network != 0)
    count = seen.sum(1)
    mean = torch.where(seen, network, 0).sum(1) / count.clamp(min=1)
    return (torch.where(count > 0, mean, NEVER_SEEN) - shift) / scale


def mosaicing_resnet(batch: Batch) -> torch.Tensor:
    """As published for `resnet` inputs in [0, 5]: the constant is 0.1 in reflectance."""
    return mosaicing_as_published(batch, 5, 0)


def mosaicing_default(batch: Batch) -> torch.Tensor:
    """As published for `default` inputs in [-1, 1]: the constant is 0.75 in reflectance."""
    return mosaicing_as_published(batch, 2, -1)


def _radar(batch: Batch, channel: int) -> torch.Tensor:
    import torch

    if batch.s1 is None or batch.s1_days is None or batch.target_day is None:
        raise InputMissing("A radar baseline needs Sentinel-1 and a target date, and the sample lacks them.")
    near = (batch.s1_days - batch.target_day[:, None]).abs().argmin(1)
    db = batch.s1[torch.arange(len(batch)), near, channel]
    grey = ((db.clamp(-25, 0) + 25) / 25)[:, None]
    return grey.expand(-1, batch.s2.shape[2], -1, -1).clone()


def sar_vv(batch: Batch) -> torch.Tensor:
    """Raw S1 VV, cut to [-25, 0] dB and scaled to [0, 1], as every band (the row 'S1 VV' of Ebel 2020 Table III)."""
    return _radar(batch, 0)


def sar_vh(batch: Batch) -> torch.Tensor:
    """Raw S1 VH, likewise (the row 'S1 VH')."""
    return _radar(batch, 1)


BASELINES: dict[str, Baseline] = {
    "identity": Baseline(identity),
    "least-cloudy-input": Baseline(least_cloudy),
    "mosaicing": Baseline(mosaicing),
    "mosaicing-code-resnet": Baseline(mosaicing_resnet),
    "mosaicing-code-default": Baseline(mosaicing_default),
    "sar-vv": Baseline(sar_vv),
    "sar-vh": Baseline(sar_vh),
}


def baseline(name: str) -> Baseline:
    """A baseline by name. Raises UsageError."""
    if name not in BASELINES:
        raise UsageError(f"There is no baseline '{name}'.", why=f"baselines are: {', '.join(BASELINES)}.")
    return BASELINES[name]
