"""Working off job lists: every product once, failures put aside in words, deaths of workers without a trace."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from batch.chores import Killer
from batch.fields import write_field
from unclouded.batch import dask
from unclouded.batch.jobs import plan_units, write_jobs
from unclouded.batch.run import Aside, Summary, run_jobs
from unclouded.batch.there import is_there
from unclouded.errors import InputMissing, TryAgain, UsageError
from unclouded.products.product import load_product

OPTIONS = {"model": "linear", "screen": False}


def planned(folder: Path, *places: tuple[str, int]) -> Path:
    fields = [write_field(folder / name, dates=dates, seed=n) for n, (name, dates) in enumerate(places)]
    write_jobs(folder / "jobs.jsonl", plan_units(fields, folder / "out", OPTIONS)[0])
    return folder / "jobs.jsonl"


def run(jobs: Path, **options) -> Summary:
    return run_jobs(jobs, pause=0, say=lambda text: None, **options)


def products(jobs: Path) -> dict[str, str]:
    return {
        f"{path.parent.parent.name}/{path.parent.name}": load_product(path.parent, verify=True).manifest["digest"]
        for path in (jobs.parent / "out").glob("*/*/manifest.json")
    }


def test_every_unit_is_done_once_whatever_the_shard(tmp_path):
    jobs = planned(tmp_path, ("north", 3), ("south", 2))
    first = run(jobs, shard="1/2", workers=2)
    assert sorted(u.name for u in first.done) == ["north/2020-01-01", "north/2020-01-11", "south/2020-01-06"]
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/*/*.tif")}
    rest = run(jobs)
    assert (len(rest.done), len(rest.there), rest.failed) == (2, 3, ())
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    assert len(products(jobs)) == 5 and not list((tmp_path / "out").glob("*/*.staging"))


def test_a_changed_input_makes_another_product(tmp_path):
    jobs = planned(tmp_path, ("field", 2))
    run(jobs)
    unit = plan_units([tmp_path / "field"], tmp_path / "out", OPTIONS)[0][0]
    assert is_there(unit)
    os.utime(tmp_path / "field" / "2020-01-06" / "s2.tif")
    assert not is_there(unit)


def test_failures_are_put_aside_in_words_and_tried_again_when_asked(tmp_path):
    jobs = planned(tmp_path, ("good", 2), ("bad", 2))
    broken = tmp_path / "bad" / "2020-01-06" / "s2.tif"
    sound = broken.read_bytes()
    broken.write_bytes(sound[:-2000])
    first = run(jobs, workers=2)
    assert sorted(u.name for u in first.done) == ["good/2020-01-01", "good/2020-01-06"]
    assert sorted(u.name for u, _ in first.failed) == ["bad/2020-01-01", "bad/2020-01-06"]
    assert all("s2.tif" in why for _, why in first.failed)
    broken.write_bytes(sound)
    later = run(jobs)
    assert len(later.there) == 2 and len(later.failed) == 2 and later.done == ()  # still aside
    mended = run(jobs, again=True)
    assert len(mended.done) == 2 and mended.failed == () and not Path(f"{jobs}.failed").exists()


def test_vanished_input(tmp_path):
    jobs = planned(tmp_path, ("field", 2))
    (tmp_path / "field").rename(tmp_path / "elsewhere")
    assert all("There is no file or folder" in why for _, why in run(jobs).failed)


def test_an_output_that_cannot_be_written_is_tried_again_and_then_put_aside(tmp_path):
    jobs = planned(tmp_path, ("field", 2))
    (tmp_path / "out").write_text("a file where the folder should be")
    (unit, why), _ = run(jobs).failed
    assert why.startswith("3 attempts") and "cannot be written" in why and Aside(Path(f"{jobs}.failed")).why(unit) == why


def test_misuse_is_refused(tmp_path):
    jobs = planned(tmp_path, ("field", 2))
    with pytest.raises(UsageError, match="--executor slurm"):
        run(jobs, executor="slurm")
    with pytest.raises(UsageError, match="--scheduler"):
        run(jobs, scheduler="tcp://127.0.0.1:1")


def _listening() -> set[tuple[str, int]]:
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A":
                found.add((address.split(":")[0], int(address.split(":")[1], 16)))
    return found


def test_dask_on_this_machine_listens_on_loopback_only(tmp_path):
    jobs = planned(tmp_path, ("field", 2))
    before, during = _listening(), set()
    summary = run_jobs(jobs, executor="dask", workers=2, pause=0, say=lambda text: during.update(_listening()))
    assert len(summary.done) == 2
    assert during - before, "a cluster listens somewhere"
    assert {address for address, _ in during - before} == {f"{int.from_bytes(socket.inet_aton('127.0.0.1'), 'little'):08X}"}


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    jobs = planned(tmp_path, ("field", 2))
    monkeypatch.setattr("unclouded.batch.dask.CONNECT", "1s")
    with pytest.raises(InputMissing, match="No Dask scheduler"):
        run(jobs, executor="dask", scheduler="tcp://127.0.0.1:1")


class Cluster:
    """A client of Dask, its one unit and a clock: workers are there, and the unit is done, at the seconds that are said."""

    def __init__(self, there, done):
        self.now, self.there, self.done = 0.0, there, done
        self.time = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds):
        self.now += seconds

    @property
    def status(self):
        return "finished" if self.now >= self.done else "pending"

    def scheduler_info(self, n_workers):
        return {"workers": {"one": {}} if self.there(self.now) else {}}


@pytest.mark.parametrize("gone", [range(0), range(100, 140), range(61, 62)])
def test_a_slow_unit_is_waited_for_though_workers_come_and_go(gone, monkeypatch):
    cluster = Cluster(there=lambda now: int(now) not in gone, done=200)
    monkeypatch.setattr(dask, "time", cluster.time)
    assert list(dask._as_they_come(cluster, {cluster})) == [cluster]


def test_nobody_waits_for_workers_that_do_not_come_back(monkeypatch):
    cluster = Cluster(there=lambda now: now < 30, done=200)
    monkeypatch.setattr(dask, "time", cluster.time)
    with pytest.raises(TryAgain, match="All Dask workers are gone"):
        list(dask._as_they_come(cluster, {cluster}))
    assert 30 + dask.ALONE - 2 < cluster.now < 30 + dask.ALONE + 2


@pytest.mark.kill
@pytest.mark.parametrize(("units", "deaths"), [(12, 3), pytest.param(60, 15, marks=pytest.mark.long)])
def test_workers_that_die_lose_nothing(tmp_path, units, deaths):
    from distributed import Client, LocalCluster

    jobs = planned(tmp_path, *((f"field{n}", 3) for n in range(units // 3)))
    (tmp_path / "deaths").mkdir()
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=2, threads_per_worker=1, **here, silence_logs=50) as cluster, Client(cluster) as client:
        client.register_plugin(Killer(tmp_path / "deaths", deaths))
        summary = run(jobs, executor="dask", scheduler=cluster.scheduler_address)
    assert len(list((tmp_path / "deaths").iterdir())) == deaths
    assert len(summary.done) + len(summary.there) == units and summary.failed == ()
    found = products(jobs)
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    fields = sorted({tmp_path / name.split("/")[0] for name in found})[:1]
    write_jobs(quiet / "jobs.jsonl", plan_units(fields, quiet / "out", OPTIONS)[0])
    run(quiet / "jobs.jsonl")
    again = products(quiet / "jobs.jsonl")
    assert len(found) == units and again == {name: found[name] for name in again} and len(again) == 3
    for folder in (tmp_path / "out").iterdir():
        listed = json.loads((folder / "manifest.json").read_text())["products"]
        assert [p["date"] for p in listed] == [str(np.datetime64("2020-01-01") + 5 * n) for n in range(3)]
        assert sorted(p.name for p in folder.iterdir()) == [*(p["date"] for p in listed), "manifest.json"]


@pytest.mark.kill
def test_a_scheduler_that_dies_loses_nothing(tmp_path):
    jobs = planned(tmp_path, ("field", 4))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    program, quiet = [sys.executable, "-m"], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [
            *program,
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            address.rpartition(":")[2],
            "--no-dashboard",
        ],
        **quiet,
    )
    worker = subprocess.Popen(
        [*program, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"], **quiet
    )
    try:
        with pytest.raises(TryAgain, match="scheduler is gone"):
            run_jobs(jobs, executor="dask", scheduler=address, pause=0, say=lambda text: scheduler.kill())
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    before = products(jobs)
    assert before
    summary = run(jobs)
    assert len(summary.done) + len(summary.there) == 4 and len(summary.there) >= 1 and summary.failed == ()
    after = products(jobs)
    assert len(after) == 4 and all(after[name] == digest for name, digest in before.items())
