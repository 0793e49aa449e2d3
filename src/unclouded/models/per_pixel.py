"""What the classic solvers share: a batch becomes stacks of clear observations, a solver fills them, with age and support."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from unclouded.models.needs import Needs
from unclouded.models.scene_study import Stack, stack_of_batch
from unclouded.models.temporal import Floats, Mask, Pixels
from unclouded.sample import NO_AGE, Batch, Prediction, Source

NEEDS = Needs(dates=(2, None))
STRIP = 65_536  # pixels worked on at a time


def usable(days: NDArray[np.int64], day: np.int64 | int, causal: bool) -> Mask:
    """(T,) every date but the target's; only earlier ones if causal."""
    return days < day if causal else days != day


def solved(batch: Batch, solve: Callable[[Pixels, int, Mask], Floats], *, causal: bool, radar: bool = False) -> Prediction:
    """Every pixel of every sample through `solve(pixels, target index, usable dates)` -> (B, N).

    A pixel that no usable date shows clearly is refused (NaN). The target date's own pixels are not among the usable ones.
    """
    import torch

    parts = [_one(stack_of_batch(batch, b, None, radar), solve, causal) for b in range(len(batch))]
    s2, age, support = (torch.from_numpy(np.stack(column)) for column in zip(*parts, strict=True))
    source = torch.where(age == NO_AGE, int(Source.REFUSED), int(Source.DATES)).to(torch.uint8)
    return Prediction(s2=s2, source=source, age=age, support=support)


def _one(
    stack: Stack, solve: Callable[[Pixels, int, Mask], Floats], causal: bool
) -> tuple[Floats, NDArray[np.int16], NDArray[np.int16]]:
    use = usable(stack.days, stack.days[stack.t], causal)
    p = stack.pixels(np.ones(stack.shape, bool))
    value = np.empty((p.x.shape[1], len(p)), np.float32)
    for start in range(0, len(p), STRIP):
        at = np.arange(start, min(start + STRIP, len(p)))
        value[:, at] = solve(p.take(at), stack.t, use)
    age = nearest_age(p, stack.t, use)
    value[:, age == NO_AGE] = np.nan
    support = p.clear[use].sum(0).astype(np.int16)
    return value.reshape(-1, *stack.shape), age.reshape(stack.shape), support.reshape(stack.shape)


def nearest_age(p: Pixels, t: int, use: Mask) -> NDArray[np.int16]:
    """(N,) signed days to the nearest clear usable observation, the earlier one of two; NO_AGE where there is none."""
    away = (p.days - p.days[t]).astype(np.int64)
    age = np.full(len(p), NO_AGE, np.int16)
    for u in sorted(np.flatnonzero(use), key=lambda u: (-abs(int(away[u])), int(away[u]) < 0)):
        age[p.clear[u]] = away[u]
    return age
