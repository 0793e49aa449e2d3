"""A single-date network applied to every date of a series: the "ResNet" baseline of Ebel et al. 2022, Table I."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from unclouded.errors import InputUnsupported
from unclouded.sample import Batch, Prediction

if TYPE_CHECKING:
    import numpy as np

    from unclouded.models.needs import CloudRemover
    from unclouded.scenes.scene import Scene


class PerDate:
    """A remover for all dates out of one for single dates. The target date must be among the inputs."""

    def __init__(self, remover: CloudRemover) -> None:
        self.remover = remover
        self.needs = remover.needs

    def __call__(self, batch: Batch) -> Prediction:
        """`series` (B, T, C, H, W); NaN for dates that measured nothing. Raises InputUnsupported without the target."""
        if batch.target_index is None or bool((batch.target_index < 0).any()):
            raise InputUnsupported("A single-date network restores dates of the series; the target date is not among them.")
        parts = [self._date(batch, t) for t in range(batch.s2.shape[1])]
        seen = batch.s2_valid.flatten(2).any(2)[..., None, None, None]
        series = torch.where(seen, torch.stack([part.s2 for part in parts], 1), torch.nan)
        target = self.remover(batch)
        return replace(target, series=series)

    def _date(self, batch: Batch, t: int) -> Prediction:
        at = torch.full((len(batch),), t, device=batch.s2.device)
        return self.remover(replace(batch, target_index=at, target_day=batch.s2_days[:, t]))

    def adapt(self, scene: Scene, date: np.datetime64) -> PerDate:
        """The inner remover adapted."""
        return PerDate(self.remover.adapt(scene, date))
