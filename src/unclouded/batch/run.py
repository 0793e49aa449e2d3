"""Working off a job list: each unit writes its own product, so any may be repeated, anywhere, at any time.

A unit whose product is there, made as it would make it, is passed over (there.py). One that fails is tried again after a
pause, as long as trying again can help; then it is put aside with its reason, in a folder beside the job list, and the others
go on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from unclouded.batch.jobs import Unit, read_jobs, shard_of
from unclouded.batch.there import arguments, is_there, refuse_to_replace
from unclouded.errors import OutputFailed, TryAgain, UncloudedError, UsageError
from unclouded.products.journal import write_file
from unclouded.remove import remove_clouds
from unclouded.workers import in_processes, one_thread

ATTEMPTS = 3
PAUSE = 5.0  # seconds before the second attempt; each further pause is twice as long
PASSING = (OutputFailed, TryAgain)  # of the errors in words, those that another attempt may not meet

State = Literal["done", "there", "failed", "again"]
Engine = Callable[[Sequence[Unit]], Iterable["Outcome"]]
Say = Callable[[str], None]


class Outcome(NamedTuple):
    """What became of a unit: done now, there before, failed for good, or worth another attempt."""

    unit: Unit
    state: State
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What became of a job list."""

    done: tuple[Unit, ...]
    there: tuple[Unit, ...]  # done before
    failed: tuple[tuple[Unit, str], ...]  # now, or put aside earlier


def run_jobs(
    jobs: Path,
    *,
    shard: str | None = None,
    executor: str = "local",
    scheduler: str | None = None,
    workers: int = 1,
    again: bool = False,
    overwrite: bool = False,
    pause: float = PAUSE,
    say: Say = print,
) -> Summary:
    """Work off a job list, or the shard 'i/n' of it, `workers` units at a time.

    `executor`: 'local' (processes of this machine) or 'dask' (`scheduler`: its address; None: a cluster on this machine that
    listens on 127.0.0.1 only). `again`: also try units that were put aside. `overwrite`: do, and replace products and
    unfinished runs that were made with other options or from other files. Raises UsageError, InputMissing.
    """
    if executor not in ("local", "dask"):
        raise UsageError(f"--executor {executor} is not known.", do="use local or dask.")
    if scheduler is not None and executor != "dask":
        raise UsageError("--scheduler is for Dask.", do="add --executor dask.")
    aside = Aside(jobs.with_name(jobs.name + ".failed"))
    units = shard_of(read_jobs(jobs), shard)
    left_out = [] if again or overwrite else [(unit, why) for unit in units if (why := aside.why(unit))]
    todo = [unit for unit in units if unit not in [u for u, _ in left_out]]
    outcomes = _with_attempts(_engine(executor, scheduler, workers, overwrite), todo, pause)
    found = [_told(outcome, aside, n, len(todo), say) for n, outcome in enumerate(outcomes, 1)]
    return Summary(
        done=tuple(o.unit for o in found if o.state == "done"),
        there=tuple(o.unit for o in found if o.state == "there"),
        failed=(*left_out, *((o.unit, o.why) for o in found if o.state == "failed")),
    )


def _engine(executor: str, scheduler: str | None, workers: int, overwrite: bool) -> Engine:
    work = partial(attempt, overwrite=overwrite)
    if executor == "local":
        return lambda units: in_processes(work, units, workers, apart=True, attempts=1, give_up=_lost)
    from unclouded.batch.dask import over_dask

    return lambda units: over_dask(work, units, scheduler, workers)


def _lost(unit: Unit, why: str) -> Outcome:
    return Outcome(unit, "again", why)


def _with_attempts(engine: Engine, units: Sequence[Unit], pause: float) -> Iterator[Outcome]:
    """Every unit with its final outcome, those that are worth it after up to `ATTEMPTS` rounds."""
    for round in range(1, ATTEMPTS + 1):
        open_ = []
        for outcome in engine(units):
            if outcome.state != "again":
                yield outcome
            elif round == ATTEMPTS:
                yield outcome._replace(state="failed", why=f"{ATTEMPTS} attempts; at last: {outcome.why}")
            else:
                open_.append(outcome.unit)
        units = open_
        if not units:
            return
        time.sleep(pause * 2 ** (round - 1))


def _told(outcome: Outcome, aside: Aside, n: int, total: int, say: Say) -> Outcome:
    aside.note(outcome)
    first = outcome.why.splitlines()[0] if outcome.why else ""
    say(f"[{n}/{total}] {outcome.unit.name}: {outcome.state}{': ' if first else ''}{first}")
    return outcome


def attempt(unit: Unit, *, overwrite: bool = False) -> Outcome:
    """Make one product, in this process. Never raises for what is wrong with one unit.

    A finished product that is not as this unit makes it is replaced if `overwrite`, else the unit fails.
    """
    one_thread()
    try:
        if is_there(unit):
            return Outcome(unit, "there")
        if not overwrite:
            refuse_to_replace(unit)
        how = {**arguments(unit.options), "resume": True, "overwrite": overwrite}
        remove_clouds(unit.s2, unit.out, s1=unit.s1 or None, date=unit.date, **how)
    except PASSING as error:
        return Outcome(unit, "again", str(error))
    except UncloudedError as error:
        return Outcome(unit, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - one unit must not end the others
        return Outcome(unit, "again", repr(error))
    return Outcome(unit, "done")


class Aside:
    """The units that were put aside, one small file each, so that shards on other machines can write theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def why(self, unit: Unit) -> str:
        """Why a unit was put aside; "" if it was not."""
        try:
            return str(json.loads(self._path(unit).read_text(encoding="utf-8"))["why"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def note(self, outcome: Outcome) -> None:
        """Put a unit aside, or take it back when it is done."""
        if outcome.state == "failed":
            self.folder.mkdir(exist_ok=True)
            write_file(self._path(outcome.unit), json.dumps({"unit": outcome.unit.name, "why": outcome.why}).encode())
        elif self.folder.exists():
            self._path(outcome.unit).unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                os.rmdir(self.folder)

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"{unit.key}.json"
