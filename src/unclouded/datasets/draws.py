"""The order in which samples are drawn: decided by seed, epoch and step alone, whatever the number of workers.

Worker w of n takes every n-th step, so all workers together see what one would, and a run resumed at a step sees exactly the
samples that remained. A broken sample is skipped and counted; beyond one in a thousand the run stops with its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.lattice import key
from unclouded.errors import InputCorrupt, InputMissing, RecordError
from unclouded.sample import Sample

Change = Callable[[Sample, int], Sample]  # sample, seed -> sample
TOLERATED = 0.001


class SampleSource(Protocol):
    """Anything with a length that gives samples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Sample: ...


@runtime_checkable
class Telling(Protocol):
    """A source that says what it holds without reading a pixel, as JSON values."""

    def origin(self) -> dict[str, Any]:
        """Where it lies, and how dates are drawn, if they are."""
        ...

    def told(self, i: int) -> dict[str, Any]:
        """The name of sample i, and its dates and target where the source knows them."""
        ...


def order(count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0 .. count - 1."""
    return np.random.default_rng((key(seed, "order"), epoch)).permutation(count)


def draw(
    source: SampleSource,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    worker: int = 0,
    workers: int = 1,
    change: Change | None = None,
    tolerated: float = TOLERATED,
    skipped: Callable[[int, Exception], None] | None = None,
) -> Iterator[tuple[int, Sample]]:
    """(step, sample) for one worker's steps of an epoch from step `start` on; `change` gets its own seed for every step.

    `skipped(i, error)` hears of every broken sample. Raises its error where more than `tolerated` of the worker's samples
    are broken.
    """
    numbers = order(len(source), seed=seed, epoch=epoch)
    share = -(-len(numbers) // workers)
    broken = 0
    for step in range(start, len(numbers)):
        if step % workers != worker:
            continue
        i = int(numbers[step])
        try:
            sample = source[i]
        except (InputCorrupt, InputMissing, RecordError) as error:
            broken += 1
            if skipped is not None:
                skipped(i, error)
            if broken > tolerated * share:
                raise
            continue
        yield step, sample if change is None else change(sample, key(seed, epoch, step))


@dataclass(frozen=True)
class Unpaired:
    """Cloudy images and targets of different places, as cycle-consistent training draws them (Ebel et al. 2020, section III-B).

    Sample i has the cloudy image, its radar and its clouds from i, the target from another one, by `seed` and `epoch`.
    """

    source: SampleSource
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Sample:
        """Sample i with another's target. Raises RecordError where that one has none."""
        ring = order(len(self), seed=self.seed, epoch=self.epoch)
        place = int(np.flatnonzero(ring == i)[0])
        mine, other = self.source[i], self.source[int(ring[(place + 1) % len(ring)])]
        if other.target is None:
            raise RecordError(f"'{other.place.id}' has no target to draw.")
        return replace(mine, target=other.target, target_valid=other.target_valid, target_date=other.target_date)
