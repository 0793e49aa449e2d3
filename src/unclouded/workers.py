"""Work for several processes: items out, results back as they come; a process that dies is replaced, its item tried again.

Each process gets the work once, then one item at a time, so that no more than one result per process is ever under way and
the process that an item killed is known. Items that follow one another go to the same process, which has just read what they
share. One thread each: the same bits however many there are.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from unclouded.errors import TryAgain, UncloudedError

T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS = 3  # per item
CACHE_MIB = 128
PRELOAD = [  # imported once for all processes
    "threadpoolctl", "rasterio", "odc.geo.geobox", "scipy.ndimage", "torch", "unclouded.remove", "unclouded.masks.detect",
    "unclouded.products.product", "unclouded.models.probe", "unclouded.models.running", "unclouded.tiling.groups",
]  # fmt: skip
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Task(Generic[T]):
    item: T
    failures: int = 0


def in_processes(
    work: Callable[[T], R],
    items: Sequence[T],
    count: int,
    *,
    apart: bool = False,
    attempts: int = ATTEMPTS,
    give_up: Callable[[T, str], R] | None = None,
    cache_mib: int = CACHE_MIB,
) -> Iterator[R]:
    """`work` of every item, in the order in which they are done; with one process or one item it is done right here.

    `work` must be picklable. `apart`: in another process even if it is one. `cache_mib`: what GDAL may keep of decoded rasters
    in each process. An UncloudedError of an item ends the run at once; any other failure, and the death of a process, only
    after `attempts`, with TryAgain, or `give_up` says from the item and the reason what to return in its place.
    """
    count = min(count, len(items))
    if count <= 1 and not (apart and items):
        yield from map(work, items)
        return
    waiting = _Waiting(items, count)
    crew: list[_Worker[T, R]] = []
    try:
        crew.extend(_Worker(work, cache_mib) for _ in range(count))
        for place, worker in enumerate(crew):
            worker.take(waiting.next(place))
        while busy := [worker for worker in crew if worker.task is not None]:
            ready = wait([worker.connection for worker in busy])
            for place, worker in ((n, w) for n, w in enumerate(crew) if w in busy and w.connection in ready):
                task, done, result = worker.outcome()
                if not done and task.failures < attempts:
                    waiting.again(place, task)
                worker.take(waiting.next(place))
                if done:
                    yield result
                elif task.failures >= attempts:
                    yield _given_up(task, result, give_up)
    finally:
        for worker in crew:
            worker.end()


def in_threads(work: Callable[[T], R], items: Sequence[T], count: int) -> Iterator[R]:
    """`work` of every item, in order, in threads of this process: for NumPy, GDAL and LightGBM, which let each other run."""
    if min(count, len(items)) <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(work, items)


def _given_up(task: _Task[T], why: str, give_up: Callable[[T, str], R] | None) -> R:
    if give_up is not None:
        return give_up(task.item, why)
    raise TryAgain(
        f"A part of the work failed {task.failures} times.", where=repr(task.item), why=f"at last {why}",
        do="continue with --resume and fewer --workers: a process that vanished was often short of memory.",
    )  # fmt: skip


class _Waiting(Generic[T]):
    """What nobody has begun: a run of neighbouring items for each process. One that is through with its own takes half of
    the longest that is left.
    """

    def __init__(self, items: Sequence[T], count: int) -> None:
        ends = [len(items) * n // count for n in range(count + 1)]
        self.runs = [deque(_Task(item) for item in items[a:b]) for a, b in pairwise(ends)]

    def next(self, place: int) -> _Task[T] | None:
        """The next task for the process at `place`; None if there is none."""
        if not self.runs[place]:
            longest = max(self.runs, key=len)
            half = [longest.pop() for _ in range((len(longest) + 1) // 2)]
            self.runs[place].extend(reversed(half))
        return self.runs[place].popleft() if self.runs[place] else None

    def again(self, place: int, task: _Task[T]) -> None:
        """A task that failed: after the others of that process."""
        self.runs[place].append(task)


class _Worker(Generic[T, R]):
    """One process, the pipe to it, and what it is doing."""

    def __init__(self, work: Callable[[T], R], cache_mib: int) -> None:
        self._start: Callable[[], tuple[BaseProcess, Connection]] = lambda: _started(work, cache_mib)
        self.process, self.connection = self._start()
        self.task: _Task[T] | None = None

    def take(self, task: _Task[T] | None) -> None:
        """Hand over an item, if there is one, to a new process if this one is gone."""
        self.task = task
        if task is None:
            return
        try:
            self.connection.send(task.item)
        except OSError:
            self.renew()
            self.connection.send(task.item)

    def outcome(self) -> tuple[_Task[T], bool, Any]:
        """The task, and (True, result) or (False, why not). Raises an UncloudedError of the work."""
        assert self.task is not None
        try:
            done, result = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(10)
            done, result = False, f"its process ended with code {self.process.exitcode}"
            self.renew()
        if isinstance(result, UncloudedError) and not done:
            raise result
        self.task.failures += not done
        return self.task, done, result

    def renew(self) -> None:
        """Put a fresh process in the place of this one."""
        self.end()
        self.process, self.connection = self._start()

    def end(self) -> None:
        """End the process, whatever it is doing: it owns nothing that could be left half done."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def _started(work: Callable[[Any], Any], cache_mib: int) -> tuple[BaseProcess, Connection]:
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(PRELOAD)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs, cache_mib), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(work: Callable[[Any], Any], connection: Connection, cache_mib: int) -> None:
    """The life of a process: items in, (True, result) or (False, why not) out, until the other end is gone."""
    one_thread(cache_mib)
    keep_freed()
    while True:
        try:
            item = connection.recv()
            connection.send(_tried(work, item))
        except (EOFError, BrokenPipeError, KeyboardInterrupt):
            return


def keep_freed() -> None:
    """Have glibc keep freed memory for the next array instead of handing back pages that must then be cleared anew.

    For a process of our own: one that works through blocks of one size, so its peak stays as it is. Elsewhere than with glibc
    nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
            mallopt(option, value)


def _tried(work: Callable[[Any], Any], item: Any) -> tuple[bool, Any]:
    try:
        return True, work(item)
    except UncloudedError as error:
        return False, error
    except Exception:  # noqa: BLE001 - whatever it is, it is told to the process that asked
        return False, traceback.format_exc(limit=-3)


def one_thread(cache_mib: int = CACHE_MIB) -> None:
    """One thread for all arithmetic of this process, and a bound for what GDAL keeps of decoded rasters."""
    from threadpoolctl import threadpool_limits

    os.environ.update(dict.fromkeys(THREADS, "1"), GDAL_CACHEMAX=str(cache_mib))
    threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
