"""A remover over many windows of a scene: one at a time on the processor, in batches on a graphics card.

On the processor every window is a batch of its own, so its pixels are the same bits whatever else is computed. On a device the
first window of a size tells how many fit into its memory together; while they are computed, one thread reads the next ones.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Protocol

import torch

from unclouded.errors import BudgetTooSmall, UsageError
from unclouded.models.single_date import SingleDate
from unclouded.sample import TILE, Batch, Prediction, Window, around

if TYPE_CHECKING:
    import numpy as np

    from unclouded.models.needs import CloudRemover, Needs
    from unclouded.scenes.scene import Scene

MOST = 8  # windows in a batch: a block has a few dozen tiles, and some must be left to read ahead
STAGED = 256 * 2**20  # bytes of a batch before it is on the device
COPIES = 3  # of it: the batch at work, and the next one as read and as stacked
SHARE = 0.8  # of the device's free memory that a batch may take


def predictions(remover: CloudRemover, scene: Scene, date: np.datetime64, windows: Sequence[Window]) -> Iterator[Prediction]:
    """What a remover makes of every window, in order, one sample each, in the processor's memory."""
    if isinstance(remover, OnDevice):
        yield from remover.over(scene, date, windows)
        return
    whole = remover.needs.tile is None and _squares([around(windows)]) < _squares(windows)
    for some in [list(windows)] if whole else [[window] for window in windows]:
        samples = deque(scene.read_together(some, target=date))
        while samples:
            yield remover(Batch.stack([samples.popleft()]))


def _squares(windows: Sequence[Window]) -> int:
    """How many squares of `TILE` pixels have to be decoded for windows that are read one by one."""
    return sum(
        prod((first + size - 1) // TILE - first // TILE + 1 for first, size in zip(window[:2], window[2:], strict=True))
        for window in windows
    )


def read(scene: Scene, date: np.datetime64, windows: Sequence[Window]) -> Batch:
    """Windows of one size, for restoring `date`."""
    return Batch.stack([scene.read(window, target=date) for window in windows])


def place_on(device: str, remover: CloudRemover, model: str) -> CloudRemover:
    """The remover where it shall compute: 'cpu', 'cuda' or 'cuda:N' (networks only), or 'auto': on a card if there is one.

    Raises UsageError for other words, for a card that is not there, and for a card asked of a remover without a network.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device {device} is not known.", do="use auto, cpu, cuda or cuda:N.")
    index = int(device.partition(":")[2] or 0)
    if device == "cpu" or (device == "auto" and not (isinstance(remover, SingleDate) and torch.cuda.is_available())):
        return remover
    if not isinstance(remover, SingleDate):
        raise UsageError(f"'{model}' computes on the processor.", do="leave --device out: it is for networks.")
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"--device {device}: there is no such card.",
            why=f"torch {torch.__version__} sees {torch.cuda.device_count()} of them.",
            do="use --device cpu; `unclouded doctor` tells which cards there are.",
        )  # fmt: skip
    cuda = Cuda(torch.device("cuda", index))
    remover.network.to(cuda.device)
    return OnDevice(remover, cuda)


def computing_on(remover: CloudRemover) -> str:
    """'cpu', or the name of the card."""
    return str(remover.device) if isinstance(remover, OnDevice) else "cpu"


class Device(Protocol):
    """Where a network computes. `str` of it is its name."""

    def pin(self, batch: Batch) -> Batch:
        """The batch in memory that the device copies from."""
        ...

    def run(self, remover: CloudRemover, batch: Batch) -> Prediction:
        """The remover's prediction, back in the processor's memory. Raises torch.OutOfMemoryError."""
        ...

    def taken(self) -> int:
        """Bytes of the device that the last run took at most."""
        ...

    def free(self) -> int:
        """Bytes of the device that a run can have."""
        ...

    def tidy(self) -> None:
        """Give back what is kept for later."""
        ...


@dataclass(frozen=True)
class Cuda:
    """A CUDA card. Arithmetic is float32 as on the processor (no TF32), but in another order: the last digits differ."""

    device: torch.device

    def __str__(self) -> str:
        return torch.cuda.get_device_name(self.device)

    def pin(self, batch: Batch) -> Batch:
        """See Device; so the others."""
        with torch.cuda.device(self.device):
            return batch.pin_memory()

    def run(self, remover: CloudRemover, batch: Batch) -> Prediction:  # noqa: D102
        torch.cuda.reset_peak_memory_stats(self.device)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return remover(batch.to(self.device, non_blocking=True)).to("cpu")

    def taken(self) -> int:  # noqa: D102
        return torch.cuda.max_memory_allocated(self.device) - torch.cuda.memory_allocated(self.device)

    def free(self) -> int:  # noqa: D102
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + kept

    def tidy(self) -> None:  # noqa: D102
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class OnDevice:
    """A remover whose network lies on a device. Batches and predictions are in the processor's memory, as with any other."""

    remover: SingleDate
    device: Device
    together: dict[tuple[int, int], int] = field(default_factory=dict)  # windows of a size in one batch, once that is known
    reader: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))

    @property
    def needs(self) -> Needs:
        """Those of the network. In the processor's memory it holds batches on their way."""
        return replace(self.remover.needs, held=COPIES * STAGED, held_per_date=0, one_process=True)

    def adapt(self, scene: Scene, date: np.datetime64) -> OnDevice:
        """The network adapted."""
        return replace(self, remover=self.remover.adapt(scene, date))

    def fast(self) -> OnDevice:
        """The network with its faster arithmetic."""
        return replace(self, remover=self.remover.fast())

    def __call__(self, batch: Batch) -> Prediction:
        """Raises BudgetTooSmall where not even one sample fits, torch.OutOfMemoryError where several do not."""
        try:
            return self.device.run(self.remover, batch)
        except torch.OutOfMemoryError as error:
            if len(batch) > 1:
                raise
            raise BudgetTooSmall(
                f"The memory of {self.device} is too small for one window of this network.", why=str(error).split(". ")[0],
                do="end what else computes there, or use --device cpu.",
            ) from error  # fmt: skip

    def over(self, scene: Scene, date: np.datetime64, windows: Sequence[Window]) -> Iterator[Prediction]:
        """Every window in order, the next batch read and stacked while this one is computed."""
        left = deque(windows)
        ahead = self._ahead(scene, date, left)
        while ahead is not None:
            batch = ahead.result()
            ahead = self._ahead(scene, date, left)
            yield from self._computed(batch)

    def _ahead(self, scene: Scene, date: np.datetime64, left: deque[Window]) -> Future[Batch] | None:
        """The next windows of one size, as many as fit together, on their way; None where there are no more."""
        if not left:
            return None
        some = [left.popleft()]
        size = some[0].height, some[0].width
        while left and (left[0].height, left[0].width) == size and len(some) < self.together.get(size, 1):
            some.append(left.popleft())
        return self.reader.submit(lambda: self.device.pin(read(scene, date, some)))

    def _computed(self, batch: Batch) -> list[Prediction]:
        """One prediction per sample; where they do not fit, half of them at a time, from now on."""
        try:
            made = self(batch)
            if batch.shape not in self.together:
                self.together[batch.shape] = self._fitting(batch)
            return [made.part(slice(n, n + 1)) for n in range(len(batch))]
        except torch.OutOfMemoryError:
            half = len(batch) // 2
        self.device.tidy()
        self.together[batch.shape] = half
        return [made for n in range(0, len(batch), half) for made in self._computed(batch.part(slice(n, n + half)))]

    def _fitting(self, batch: Batch) -> int:
        """Samples like these that fit together, by what the last run took."""
        each, staged = max(1, self.device.taken() // len(batch)), batch.nbytes // len(batch)
        return max(1, min(MOST, STAGED // staged, int(SHARE * self.device.free()) // each))
