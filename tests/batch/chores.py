"""Work for processes in the tests; it must lie in a module that they can import."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import threading
import time
from pathlib import Path

from distributed import WorkerPlugin

from unclouded.errors import InputCorrupt


def square(item: int) -> int:
    return item * item


def here(item: int) -> int:
    return os.getpid()


def threads(item: int) -> tuple[int, str]:
    import torch

    return torch.get_num_threads(), os.environ["GDAL_CACHEMAX"]


def faulty(folder: Path, item: int, *, how: str, times: int) -> int:
    """Fails the first `times` times that the item 3 is tried."""
    tried = len(list(folder.iterdir()))
    if item == 3 and tried < times:
        (folder / str(tried)).touch()
        if how == "raise":
            raise ValueError("a passing fault")
        if how == "exit":
            os._exit(7)
        if how == "segfault":
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def corrupt(item: int) -> int:
    if item == 2:
        raise InputCorrupt("B02 is damaged", where="B02.tif", do="download it again")
    time.sleep(0.01)
    return item


def naps(seed: int, item: int) -> int:
    """Dies now and then, by a draw that differs from attempt to attempt; three times in a row once in 37 000 items."""
    if random.Random(f"{seed} {item} {os.getpid()}").random() < 0.03:
        os.kill(os.getpid(), random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]))
    return item


class Killer(WorkerPlugin):
    """Ends Dask workers in the middle of their work, by turns through `modes`, until `folder` holds `deaths` files."""

    modes = ("exit", "segfault", "kill")

    def __init__(self, folder: Path, deaths: int) -> None:
        self.folder, self.deaths = folder, deaths

    def setup(self, worker) -> None:
        self.worker, self.random = worker, random.Random(os.getpid())

    def transition(self, key, start, finish, **kwargs) -> None:
        if finish == "executing" and self.random.random() < 0.7:
            threading.Timer(self.random.uniform(0, 0.3), self.die).start()

    def die(self) -> None:
        count = len(list(self.folder.iterdir()))
        if count < self.deaths:
            (self.folder / f"{os.getpid()}").touch()
            faulthandler.disable()
            mode = self.modes[count % len(self.modes)]
            if mode == "exit":
                os._exit(1)
            os.kill(os.getpid(), signal.SIGSEGV if mode == "segfault" else signal.SIGKILL)
