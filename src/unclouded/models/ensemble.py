"""A deep ensemble: several removers asked for the same image, their disagreement added to the uncertainty.

B. Lakshminarayanan, A. Pritzel, C. Blundell: Simple and scalable predictive uncertainty estimation using deep ensembles
(NeurIPS 2017), as used by Ebel et al. 2023 (UnCRtainTS): the members' Gaussians are summed up by the mean and variance of
their mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from unclouded.errors import UsageError
from unclouded.sample import Batch, Prediction

if TYPE_CHECKING:
    import numpy as np

    from unclouded.models.needs import CloudRemover
    from unclouded.scenes.scene import Scene


class Ensemble:
    """A remover of removers. Mean: the mean of means. Variance: the mean of variances plus the variance of means.

    Members without a sigma count as certain. Raises UsageError for no members or members of different needs.
    """

    def __init__(self, members: Sequence[CloudRemover]) -> None:
        if not members:
            raise UsageError("An ensemble needs at least one member.")
        if any(member.needs != members[0].needs for member in members):
            raise UsageError("The members of an ensemble must have the same needs.", do="use one model with several weights.")
        self.members = tuple(members)
        self.needs = members[0].needs

    def __call__(self, batch: Batch) -> Prediction:
        """Source, age and support are those of the first member."""
        parts = [member(batch) for member in self.members]
        means = torch.stack([part.s2 for part in parts])
        variance = means.var(0, correction=0)
        known = [part.sigma.square() for part in parts if part.sigma is not None]
        if known:
            variance = variance + torch.stack(known).sum(0) / len(parts)
        series = [part.series for part in parts if part.series is not None]
        first = parts[0]
        return Prediction(
            s2=means.mean(0), sigma=variance.sqrt(), series=torch.stack(series).mean(0) if len(series) == len(parts) else None,
            source=first.source, age=first.age, support=first.support,
        )  # fmt: skip

    def adapt(self, scene: Scene, date: np.datetime64) -> Ensemble:
        """Every member adapted."""
        return Ensemble([member.adapt(scene, date) for member in self.members])
