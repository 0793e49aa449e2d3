"""The probe measures what it says, on ground it could see, without letting the remover see it."""

from __future__ import annotations

import numpy as np
import pytest

from unclouded.models import load
from unclouded.models.probe import Z90, conformal_sigma, measure
from unclouded.sample import Cover, Place, Sample, Window, as_days
from unclouded.scenes.scene import Scene

DAYS = ["2020-01-01", "2020-01-06", "2020-01-11"]


def scene(noise=0.01, covered=0.3, size=96) -> Scene:
    """Constant ground per pixel, noise on every date; the target's left part is hidden under a bright cloud."""
    rng = np.random.default_rng(3)
    ground = 0.1 + 0.2 * rng.random((1, 2, size, size), dtype=np.float32)
    s2 = (ground + noise * rng.normal(size=(3, 2, size, size))).astype(np.float32)
    cloud = np.zeros((3, size, size), np.float32)
    cloud[1, :, : int(covered * size)] = 1
    s2[1][:, cloud[1] > 0] = 0.9
    return Scene.of(
        Sample(
            place=Place(id="p", bands=("B02", "B08"), level="L2A"),
            s2=s2,
            s2_valid=np.ones((3, size, size), bool),
            s2_dates=as_days(DAYS),
            cloud=cloud,
        )
    )


def test_the_error_is_the_known_one():
    probe = measure(load("nearest"), scene(noise=0.01), np.datetime64(DAYS[1]))
    assert probe.kind == "target" and probe.date == DAYS[1] and probe.patches >= 4
    assert probe.rmse == pytest.approx([0.01 * 2**0.5] * 2, rel=0.05)  # the difference of two noisy looks
    assert probe.bias == pytest.approx([0, 0], abs=1e-3)
    assert probe.constant == pytest.approx([0.01 * 2**0.5] * 2, rel=0.08)  # normal errors: the constant is their deviation
    assert probe.coverage is None and probe.sigma_source == "probe"


def test_a_remover_that_would_copy_the_target_cannot_cheat():
    """Hidden patches are hidden: a remover that returns what it sees on the target date gets the cloud code, not the truth."""
    seen: list[np.ndarray] = []

    class Spy:
        needs = load("nearest").needs

        def adapt(self, at, date):
            seen.append(np.asarray(at.masks[1]))
            return load("nearest")

        def __call__(self, batch):
            raise AssertionError("the adapted remover is asked, not this one")

    original = scene()
    before = original.masks.copy()
    measure(Spy(), original, np.datetime64(DAYS[1]))
    assert (seen[0] == Cover.THICK).sum() > (before[1] == Cover.THICK).sum()
    assert np.array_equal(original.masks, before)


def test_a_fully_covered_date_is_measured_on_another_one():
    probe = measure(load("nearest"), scene(covered=1.0), np.datetime64(DAYS[1]))
    assert probe.kind == "other date" and probe.date in (DAYS[0], DAYS[2]) and probe.pixels > 0
    assert probe.rmse == pytest.approx([0.01 * 2**0.5] * 2, rel=0.05)


def test_nothing_clear_anywhere_says_so():
    sample = scene().read()
    everything = Scene.of(sample, classes=np.full((3, 96, 96), Cover.THICK, np.uint8))
    probe = measure(load("nearest"), everything, np.datetime64(DAYS[1]))
    assert probe.kind == "none" and probe.constant is None and probe.sigma_source == "unchecked"
    assert probe.summary()["psnr_db"] is None


def test_the_same_seed_draws_the_same_patches_and_leaves_global_randomness_alone():
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    first = measure(load("linear"), scene(), np.datetime64(DAYS[1]), seed=1)
    assert first == measure(load("linear"), scene(), np.datetime64(DAYS[1]), seed=1)
    assert first != measure(load("linear"), scene(), np.datetime64(DAYS[1]), seed=2)
    assert np.array_equal(np.random.get_state()[1], state)


def test_the_conformal_constant_covers_nine_in_ten():
    errors = np.abs(np.random.default_rng(0).laplace(size=(1, 5000)))
    sigma = conformal_sigma(errors)
    assert (errors <= Z90 * sigma[:, None]).mean() == pytest.approx(0.9, abs=0.001)
    assert conformal_sigma(np.array([[1.0, 2.0]]))[0] == pytest.approx(2 / Z90)  # too few: the largest error


def test_veiling_a_memory_map_does_not_touch_the_file(tmp_path):
    small = scene(size=24)
    path = tmp_path / "masks.u8"
    disk = np.memmap(path, np.uint8, "w+", shape=small.masks.shape)
    disk[:] = small.masks
    disk.flush()
    veiled = small.with_masks(np.memmap(path, np.uint8, "r", shape=disk.shape)).veiled(0, [Window(0, 0, 4, 4)])
    assert (veiled.masks[0][:4, :4] == Cover.THICK).all()
    assert np.array_equal(np.fromfile(path, np.uint8).reshape(disk.shape), small.masks)


@pytest.mark.parametrize("name", ["linear", "scene"])
def test_patches_read_together_measure_the_same_as_each_alone(name, monkeypatch):
    """Exact tiles: the numbers are the same bits. Reads are counted, so that the saving is real."""
    place, day = scene(noise=0.01, size=288), np.datetime64(DAYS[1])
    reads: list[Window | None] = []
    read = Scene.read
    monkeypatch.setattr(Scene, "read", lambda self, at=None, **more: reads.append(at) or read(self, at, **more))
    together = measure(load(name), place, day)
    few, _ = len(reads), reads.clear()
    monkeypatch.setattr("unclouded.models.probe.AREA", 1)
    assert measure(load(name), place, day) == together
    assert together.patches > 8 and few < len(reads) - together.patches / 2
