"""Removers over many windows: batches on a device that is played by the processor, reading ahead, memory that runs out."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.test_contract import make, sample, side
from unclouded.errors import BudgetTooSmall, InputCorrupt, UsageError
from unclouded.models import load, zoo
from unclouded.models.needs import Needs
from unclouded.models.running import COPIES, MOST, SHARE, STAGED, OnDevice, computing_on, place_on, predictions
from unclouded.models.several_dates import evidence, frames_of
from unclouded.models.single_date import target_frame
from unclouded.products.fill import Limits
from unclouded.remove import restore
from unclouded.sample import Batch, Prediction, Source, Window
from unclouded.scenes.scene import Scene

SIDE = 8
SAMPLE = sample(Needs(), 64, 64)
DAY = SAMPLE.target_date
ROW = [Window(0, SIDE * n, SIDE, SIDE) for n in range(8)]
WAIT = 20  # seconds until a test gives up


class Card:
    """A device of `room` samples, of which `fits` can really be computed at once."""

    def __init__(self, room: int, fits: int = MOST) -> None:
        self.room, self.fits = room, fits
        self.tried, self.pinned, self.tidied = [], [], 0

    def __str__(self):
        return "card"

    def pin(self, batch):
        self.pinned.append(len(batch))
        return batch

    def run(self, remover, batch):
        self.tried.append(len(batch))
        if len(batch) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate all of it.")
        return remover(batch)

    def taken(self):
        return 1000 * self.tried[-1]

    def free(self):
        return round(self.room * 1000 / SHARE)

    def tidy(self):
        self.tidied += 1


class Doubled:
    """Twice what the target date shows, pixel by pixel."""

    needs = Needs(tile=SIDE)

    def __call__(self, batch):
        return Prediction(s2=2 * batch.s2[:, 0], source=torch.full((len(batch), *batch.shape), int(Source.SAR)).byte())


class Watched:
    """A scene that tells when a window is read."""

    def __init__(self, look=lambda window: None):
        self.scene, self.look, self.read_in_order = Scene.of(SAMPLE), look, []

    def read(self, window, target):
        self.read_in_order.append(window)
        self.look(window)
        return self.scene.read(window, target=target)


def one_by_one(remover, windows):
    return [made.s2 for made in predictions(remover, Scene.of(SAMPLE), DAY, windows)]


def test_batches_grow_to_what_fits_and_nothing_is_lost_or_moved():
    windows = [*ROW, *(Window(SIDE, SIDE * n, SIDE, SIDE) for n in range(3)), *(Window(32, 8 * n, 16, 8) for n in range(3))]
    card, scene = Card(room=4), Watched()
    made = list(predictions(OnDevice(Doubled(), card), scene, DAY, windows))
    assert scene.read_in_order == windows
    assert card.tried == card.pinned == [1, 1, 4, 4, 1, 1, 1, 1]  # alone until it is known; then full; then another size
    assert all(len(m.s2) == len(m.source) == 1 for m in made)
    assert all(torch.equal(a.s2, b) for a, b in zip(made, one_by_one(Doubled(), windows), strict=True))


@pytest.mark.parametrize("room", [1, 3, MOST * 10])
def test_what_is_known_stays_known_and_batches_have_a_bound(room):
    remover = OnDevice(Doubled(), Card(room))
    assert len(list(predictions(remover, Scene.of(SAMPLE), DAY, 3 * ROW))) == 3 * len(ROW)
    assert remover.together == {(SIDE, SIDE): min(room, MOST)}
    assert max(remover.device.tried) == min(room, MOST)
    remover.device.tried.clear()
    assert len(list(predictions(remover, Scene.of(SAMPLE), DAY, 3 * ROW))) == 3 * len(ROW)
    assert set(remover.device.tried) == {min(room, MOST)}  # from the first window on


def test_a_batch_is_bounded_in_the_processors_memory_too(monkeypatch):
    each = Batch.stack([Scene.of(SAMPLE).read(ROW[0], target=DAY)]).nbytes
    monkeypatch.setattr("unclouded.models.running.STAGED", 3 * each)
    card = Card(room=8)
    list(predictions(OnDevice(Doubled(), card), Scene.of(SAMPLE), DAY, ROW))
    assert max(card.tried) == 3


def test_the_next_batch_is_read_while_this_one_is_computed():
    """Each side waits for the other: without overlap both would wait in vain."""
    computing, reading = ([threading.Event() for _ in ROW] for _ in range(2))

    def look(window):
        n = ROW.index(window)
        reading[n].set()
        assert n == 0 or computing[n - 1].wait(WAIT)

    class Slow(Doubled):
        seen = 0

        def __call__(self, batch):
            computing[self.seen].set()
            if self.seen + 1 < len(ROW):
                assert reading[self.seen + 1].wait(WAIT)
            self.seen += 1
            return super().__call__(batch)

    made = list(predictions(OnDevice(Slow(), Card(room=1)), Watched(look), DAY, ROW))
    assert len(made) == len(ROW)


def test_where_memory_runs_out_batches_are_halved_from_then_on():
    card = Card(room=5, fits=2)
    windows = [Window(SIDE * m, SIDE * n, SIDE, SIDE) for m in range(2) for n in range(8)]
    made = list(predictions(OnDevice(Doubled(), card), Scene.of(SAMPLE), DAY, windows))
    assert card.tried == [1, 1, 5, 2, 2, 1, 5, 2, 2, 1, 2, 2]  # the second five was read before it was known
    assert card.tidied == 2
    assert all(torch.equal(a.s2, b) for a, b in zip(made, one_by_one(Doubled(), windows), strict=True))


def test_a_window_that_does_not_fit_alone_is_an_error_in_words():
    with pytest.raises(BudgetTooSmall, match=r"memory of card is too small for one window(.|\n)*CUDA out of memory"):
        list(predictions(OnDevice(Doubled(), Card(room=8, fits=0)), Scene.of(SAMPLE), DAY, ROW))


def test_an_error_of_the_reading_comes_out_where_its_window_is_due():
    def look(window):
        if window == ROW[3]:
            raise InputCorrupt("a block is damaged")

    got = []
    with pytest.raises(InputCorrupt, match="a block is damaged"):
        got.extend(predictions(OnDevice(Doubled(), Card(room=1)), Watched(look), DAY, ROW))
    assert len(got) == 3


def network(tile=24):
    remover = make("dsen2cr")
    remover.needs = replace(remover.needs, tile=tile)
    return remover


def test_a_network_gives_nearly_the_same_in_batches_and_adapts_with_its_memory_of_sizes():
    remover, card = network(), Card(room=8)
    placed = OnDevice(remover, card)
    made = [m.s2 for m in predictions(placed.adapt(Scene.of(SAMPLE), DAY), Scene.of(SAMPLE), DAY, ROW)]
    assert max(card.tried) == 6
    assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(made, one_by_one(remover, ROW), strict=True))
    assert placed.together == {(SIDE, SIDE): 8}
    assert placed.fast().remover is remover


def test_on_a_device_one_process_restores_and_holds_batches_only(tmp_path):
    scene = Scene.of(sample(network().needs, 60, 52))

    def run(name, remover, workers):
        return restore(scene, DAY, remover, tmp_path / name, limits=Limits(), resolution=None, options={}, block=24,
                       workers=workers).manifest  # fmt: skip

    placed = OnDevice(network(), Card(room=1))
    assert (placed.needs.held, placed.needs.one_process) == (COPIES * STAGED, True)
    assert replace(placed.needs, held=0, one_process=False) == network().needs
    on_card, plain = run("card", placed, 2), run("plain", network(), 1)
    assert placed.device.tried and on_card["digest"] == plain["digest"] and on_card["probe"] == plain["probe"]
    assert (computing_on(placed), computing_on(network())) == ("card", "cpu")


def test_where_to_compute(monkeypatch):
    remover, average = network(), load("linear")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("auto", "cpu"):
        assert place_on(device, remover, "dsen2cr") is remover and place_on(device, average, "linear") is average
    for device in ("tpu", "cuda:", "cuda:x", "CPU", ""):
        with pytest.raises(UsageError, match="is not known"):
            place_on(device, remover, "dsen2cr")
    with pytest.raises(UsageError, match="--device cuda: there is no such card"):
        place_on("cuda", remover, "dsen2cr")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert place_on("auto", average, "linear") is average
    with pytest.raises(UsageError, match="'linear' computes on the processor"):
        place_on("cuda", average, "linear")
    with pytest.raises(UsageError, match="cuda:1: there is no such card"):
        place_on("cuda:1", remover, "dsen2cr")
    monkeypatch.setattr(remover.network, "to", lambda device: setattr(remover, "moved", device))
    for device in ("auto", "cuda", "cuda:0"):
        placed = place_on(device, remover, "dsen2cr")
        assert placed.device.device == remover.moved == torch.device("cuda", 0)


@pytest.mark.parametrize("name", list(zoo.NETWORKS))
def test_networks_make_no_tensor_on_another_device(name):
    """On the meta device, which refuses arithmetic with tensors of others."""
    remover = make(name)
    dates = remover.needs.dates[0]
    batch = Batch.stack([sample(remover.needs, side(remover), side(remover), dates=dates, seed=s) for s in (0, 1)]).to("meta")
    remover.network.to("meta")
    if dates == 1:
        made = [
            remover.restore(target_frame(batch).mirrored(remover.needs.multiple_of, remover.smallest)),
            remover._source(batch),
        ]
    else:
        frames = frames_of(batch, sar=remover.needs.sar != "unused").mirrored(remover.needs.multiple_of, remover.smallest)
        made = [*remover.restore_with_sigma(frames), *evidence(batch, sar=True)]
    assert {m.device.type for m in made if m is not None} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_gives_nearly_what_the_processor_gives():
    plain = one_by_one(network(), ROW)
    placed = place_on("cuda", network(), "dsen2cr")
    made = [m.s2 for m in predictions(placed, Scene.of(SAMPLE), DAY, ROW)]
    assert placed.together[SIDE, SIDE] > 1
    assert all(m.device.type == "cpu" and torch.allclose(m, p, atol=1e-4) for m, p in zip(made, plain, strict=True))


class Counted:
    """The sample as a source that counts how often dates are read."""

    def __init__(self):
        self.source, self.windows = Scene.of(SAMPLE).source, []

    def s2(self, i, window):
        self.windows.append(window)
        return self.source.s2(i, window)

    def __getattr__(self, name):
        return getattr(self.source, name)


def test_windows_are_read_together_where_that_decodes_less(monkeypatch):
    monkeypatch.setattr("unclouded.models.running.TILE", 16)
    near, far = [Window(2, 3, 20, 8), Window(12, 8, 9, 30)], [Window(0, 0, 8, 8), Window(50, 50, 8, 8)]
    for remover, windows, outer in (
        (load("linear"), near, [Window(2, 3, 20, 35)]),
        (load("linear"), far, far),  # what lies between them would be read for nothing
        (make("dsen2cr"), ROW[:2], ROW[:2]),  # tiles of a network are held one at a time
    ):
        counted = Counted()
        found = list(predictions(remover, replace(Scene.of(SAMPLE), source=counted), DAY, windows))
        assert list(dict.fromkeys(counted.windows)) == outer
        assert len(counted.windows) == len(outer) * len(SAMPLE.s2_dates)
        for window, made in zip(windows, found, strict=True):
            alone = remover(Batch.stack([Scene.of(SAMPLE).read(window, target=DAY)]))
            torch.testing.assert_close(made.s2, alone.s2, rtol=0, atol=0, equal_nan=True)


def test_parts_of_records():
    batch = Batch.stack([sample(Needs(), 8, 8, seed=s) for s in range(3)])
    some = batch.part(slice(1, 3))
    assert (
        len(some) == len(some.places) == 2 and torch.equal(some.s2, batch.s2[1:]) and torch.equal(some.cloud, batch.cloud[1:])
    )
    assert batch.nbytes == 3 * batch.part(slice(1)).nbytes and batch.part(slice(1)).nbytes > batch.s2[0].nbytes
    made = Prediction(s2=torch.arange(6.0).view(3, 2, 1, 1), age=torch.zeros(3, 1, 1, dtype=torch.int16))
    assert torch.equal(made.part(slice(2, 3)).s2, made.s2[2:]) and made.part(slice(2)).age.shape == (2, 1, 1)
    assert np.isclose(made.to("cpu").s2.sum(), 15)
