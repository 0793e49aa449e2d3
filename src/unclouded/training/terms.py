"""What a regression is told: the weighted terms of a recipe, of a Prediction and its Batch, in the network's own range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unclouded import losses
from unclouded.models.scaling import scale_optical
from unclouded.models.single_date import target_frame
from unclouded.models.uncrtaints import multivariate_nll
from unclouded.sample import Batch, Prediction

if TYPE_CHECKING:
    from unclouded.training.recipe import Loss
    from unclouded.training.vgg16 import VGG16


def regression_terms(
    loss: Loss, prediction: Prediction, batch: Batch, span: tuple[float, float], eye: VGG16 | None = None
) -> dict[str, Tensor]:
    """Every term with a weight, weighted. `span`: what reflectance 0 and 1 are in the network's range.

    Truth is clipped to reflectance [0, 1] as inputs are; the prediction is not. Only pixels of `batch.target_valid` count.
    """
    assert batch.target is not None, "training needs a target"
    p, t, valid = spread(prediction.s2, span), scale_optical(batch.target, *span), batch.target_valid
    found: dict[str, Tensor] = {}
    if loss.l1:
        found["l1"] = loss.l1 * losses.l1(p, t, valid)
    if loss.l2:
        found["l2"] = loss.l2 * losses.l2(p, t, valid)
    if loss.carl:
        cloudy, hidden = scale_optical(target_frame(batch).s2, *span), batch.hidden()[:, None].float()
        found["carl"] = loss.carl * losses.carl(p, t, cloudy, hidden, loss.carl_lambda, valid)
    if loss.ssim:
        found["ssim"] = loss.ssim * losses.ssim_loss(p, t, span[1] - span[0], valid)
    if loss.sam:
        found["sam"] = loss.sam * losses.sam_loss(prediction.s2, batch.target, valid)
    if loss.nll:
        assert prediction.sigma is not None, "the likelihood needs a network with variance"
        variance = (prediction.sigma * (span[1] - span[0])).square()
        found["nll"] = loss.nll * nll(p, variance, t, valid, as_published=loss.nll_as_published)
    if loss.series:
        found["series"] = loss.series * series_term(prediction, batch, span)
    return found | look(loss, prediction.s2, batch.target, valid, eye)


def spread(reflectance: Tensor, span: tuple[float, float]) -> Tensor:
    """Reflectance in the network's range, not clipped."""
    return reflectance * (span[1] - span[0]) + span[0]


def nll(mean: Tensor, variance: Tensor, target: Tensor, valid: Tensor | None, *, as_published: bool) -> Tensor:
    """The negative log-likelihood over valid pixels, 0 without any; as published only where all are."""
    if valid is not None and not bool(valid.any()):
        return 0 * (mean.sum() + variance.sum())
    if valid is None or bool(valid.all()):
        return multivariate_nll(mean, variance, target, as_published_batch_sum=as_published)
    parts = [x.movedim(1, -1)[valid].T[None, :, None] for x in (mean, variance.expand_as(mean), target)]
    return multivariate_nll(*parts)


def series_term(prediction: Prediction, batch: Batch, span: tuple[float, float]) -> Tensor:
    """L1 of all restored dates against what they themselves show where it is clear (U-TILISE: every frame counts)."""
    assert prediction.series is not None, "only a network that restores all dates has this term"
    shown = scale_optical(batch.s2, *span)
    clear = batch.clear()
    restored = torch.where(clear[:, :, None], spread(prediction.series, span), shown)
    return losses.l1(restored.flatten(0, 1), shown.flatten(0, 1), clear.flatten(0, 1))


def look(loss: Loss, image: Tensor, target: Tensor, valid: Tensor | None, eye: VGG16 | None) -> dict[str, Tensor]:
    """Perceptual and style terms of reflectance images, where they have a weight."""
    if eye is None or not (loss.perceptual or loss.style):
        return {}
    clear = None if valid is None or bool(valid.all()) else valid[:, None].to(image)
    shown = target.clamp(0, 1) if clear is None else torch.where(clear > 0, target, 0).clamp(0, 1)
    with torch.no_grad():
        wanted = eye(shown)
    found = eye(image)
    terms = {}
    if loss.perceptual:
        terms["perceptual"] = loss.perceptual * losses.feature_loss(found, wanted, clear)
    if loss.style:
        terms["style"] = loss.style * losses.style_loss(found, wanted)
    return terms
