"""SIGKILL at any moment, then resume: the same product to the bit, and who looks all the time never sees half of one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from products.made import finish, mixed
from unclouded.errors import InputMissing
from unclouded.products.fill import Limits
from unclouded.products.product import load_product

SCENE = {"height": 100, "width": 86}


def in_child(work) -> int:
    """Run `work` in a forked child; its pid. The child ends without running anything of the parent's."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def killed_run(work, seconds: float) -> bool:
    """Start `work`, kill it after `seconds`; True if it was killed, False if it had finished by itself."""
    pid = in_child(work)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return os.WIFSIGNALED(status)


def watcher(folder: Path, allowed: set[str]):
    """A poller: everything it ever sees at `folder` must be a whole product with one of the allowed digests, or nothing."""

    def look() -> None:
        while True:
            try:
                product = load_product(folder, verify=True)
            except InputMissing:
                assert not folder.exists() or (folder / "manifest.json").exists()  # nothing, or whole since the look
                continue
            assert product.manifest["digest"] in allowed

    return look


def kill_until_done(out: Path, digest: str, seconds: float, kills: int, rng: np.random.Generator, **options) -> int:
    """Kill and resume until a run gets through; the number of kills. A product must be whole whenever it is there."""
    done = 0
    while True:
        longest = seconds * 1.1 if done < kills else 60.0
        if not killed_run(lambda: finish(out, mixed(**SCENE), resume=True, **options), rng.uniform(0, longest)):
            break
        done += 1
    assert load_product(out / "2020-06-01", verify=True).manifest["digest"] == digest
    return done


def reference(folder: Path) -> tuple[str, float]:
    """The digest of an unkilled run in a child, and how long it takes."""
    start = time.monotonic()
    assert not killed_run(lambda: finish(folder, mixed(**SCENE)), 60)
    return load_product(folder / "2020-06-01").manifest["digest"], time.monotonic() - start


def rounds(tmp_path: Path, kills: int, seed: int) -> None:
    digest, seconds = reference(tmp_path / "whole")
    rng, done, n = np.random.default_rng(seed), 0, 0
    while done < kills:
        out = tmp_path / f"round{n}"
        n += 1
        poller = in_child(watcher(out / "2020-06-01", {digest}))
        done += kill_until_done(out, digest, seconds, 4, rng)
        assert os.waitpid(poller, os.WNOHANG) == (0, 0), "the poller saw half a product"
        os.kill(poller, signal.SIGKILL)
        os.waitpid(poller, 0)
        assert sorted(p.name for p in out.iterdir()) == ["2020-06-01", "manifest.json"]
    assert done >= kills


@pytest.mark.kill
def test_ten_kills(tmp_path):
    rounds(tmp_path, 10, seed=20_240_601)


@pytest.mark.kill
@pytest.mark.long
def test_a_hundred_kills(tmp_path):
    rounds(tmp_path, 100, seed=7)


def killing_itself(work, nth: int):
    """`work`, killed at its n-th call that makes something lasting (fsync, rename, replace, unlink, truncate)."""

    def run() -> None:
        left = [nth]

        def counted(true):
            def call(*args, **options):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return true(*args, **options)

            return call

        for name in ("fsync", "rename", "replace", "unlink", "truncate", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        work()

    return run


def at_every_step(tmp_path: Path, step: int, first: int) -> int:
    """Kill at the n-th lasting call, n = first, first + step, ...; then resume. How many kills until a run gets through."""
    scene = mixed(30, 30)
    whole = finish(tmp_path / "whole", scene).manifest["digest"]
    old = finish(tmp_path / "old", scene, limits=Limits(max_age=1), job={"old": 1}).manifest["digest"]
    kills, nth = 0, first
    while True:
        out = tmp_path / f"at{nth}"
        finish(out, scene, limits=Limits(max_age=1), job={"old": 1})
        pid = in_child(killing_itself(lambda out=out: finish(out, scene, overwrite=True, resume=True), nth))
        killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert load_product(out / "2020-06-01", verify=True).manifest["digest"] in (old, whole)
        assert finish(out, scene, overwrite=True, resume=True).manifest["digest"] == whole != old
        assert sorted(p.name for p in out.iterdir()) == ["2020-06-01", "manifest.json"]
        if not killed:
            return kills
        kills, nth = kills + 1, nth + step


@pytest.mark.kill
def test_kills_at_lasting_calls_while_a_product_is_replaced(tmp_path):
    assert at_every_step(tmp_path, 7, 3) >= 5


@pytest.mark.kill
@pytest.mark.long
def test_kills_at_every_lasting_call_while_a_product_is_replaced(tmp_path):
    assert at_every_step(tmp_path, 1, 1) >= 40
