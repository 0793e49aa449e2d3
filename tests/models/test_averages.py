"""The simple removers on series with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from unclouded.errors import UsageError
from unclouded.models import MODELS, load
from unclouded.sample import NO_AGE, Batch, Place, Sample, Source, as_days
from unclouded.scenes.scene import Scene

DATES = ["2020-01-01", "2020-01-11", "2020-01-21", "2020-01-26", "2020-03-31"]
VALUES = [0.1, 0.2, 0.9, 0.4, 0.7]  # the third is the target


def series(cloud=None, poison=0.0) -> Sample:
    s2 = np.broadcast_to(np.array(VALUES, np.float32)[:, None, None, None], (5, 2, 2, 3)).copy()
    hidden = np.zeros((5, 2, 3), np.float32) if cloud is None else cloud
    hidden[2] = 1
    s2[np.broadcast_to(hidden[:, None] > 0, s2.shape)] = poison
    return Sample(
        place=Place(id="p", bands=("B02", "B08"), level="L2A"),
        s2=s2,
        s2_valid=np.ones((5, 2, 3), bool),
        s2_dates=as_days(DATES),
        cloud=hidden,
        target_date=np.datetime64("2020-01-21"),
        target_index=2,
    )


def run(name, sample, **settings):
    return load(name, settings)(Batch.stack([sample]))


@pytest.mark.parametrize(
    ("name", "value", "age", "support"),
    [
        ("nearest", 0.4, 5, 4),
        ("least-cloudy", 0.4, 5, 4),
        ("mosaic", (0.1 + 0.2 + 0.4) / 3, 5, 3),  # 2020-03-31 is 70 days away
        ("median", 0.2, 5, 3),
        ("linear", 0.2 + (0.4 - 0.2) * 10 / 15, 5, 4),
    ],
)
def test_known_answers(name, value, age, support):
    p = run(name, series())
    assert p.s2.numpy() == pytest.approx(value, abs=1e-6)
    assert (p.age == age).all() and (p.support == support).all() and (p.source == Source.DATES).all()


def test_least_cloudy_prefers_the_clear_date_and_fills_its_holes():
    cloud = np.zeros((5, 2, 3), np.float32)
    cloud[3, :, :2] = 1  # the near date is two thirds hidden
    cloud[0, 1] = 1  # this one half
    cloud[1, 0, 0] = 1  # 10 days + 200 / 6: the best; then 70 days of the clear one
    p = run("least-cloudy", series(cloud))
    assert p.s2[0, 0].numpy() == pytest.approx(np.array([[0.7, 0.2, 0.2], [0.2, 0.2, 0.2]]))


def test_least_cloudy_ranks_the_whole_scene_once():
    cloud = np.zeros((5, 2, 3), np.float32)
    cloud[3, :, :2] = 1
    sample = series(cloud)
    remover = load("least-cloudy").adapt(Scene.of(sample), np.datetime64("2020-01-21"))
    right = remover(Batch.stack([Scene.of(sample).read(target=np.datetime64("2020-01-21")).crop(_window(0, 2, 2, 1))]))
    assert right.s2.numpy() == pytest.approx(0.2)  # alone, this column would copy 0.4 from the near date
    assert run("least-cloudy", sample.crop(_window(0, 2, 2, 1))).s2.numpy() == pytest.approx(0.4)


def _window(*numbers):
    from unclouded.sample import Window

    return Window(*numbers)


@pytest.mark.parametrize("name", ["least-cloudy", "nearest", "mosaic", "median", "linear"])
def test_what_is_hidden_has_no_influence(name):
    cloud = np.zeros((5, 2, 3), np.float32)
    cloud[1, 0], cloud[3, :, 1] = 1, 1
    answers = [run(name, series(cloud.copy(), poison)).s2.numpy() for poison in (0, np.nan, 1e30)]
    assert np.array_equal(answers[0], answers[1]) and np.array_equal(answers[0], answers[2])
    assert np.isfinite(answers[0]).all()


@pytest.mark.parametrize("name", ["least-cloudy", "nearest", "mosaic", "median", "linear"])
def test_a_pixel_that_was_never_seen_is_refused(name):
    cloud = np.zeros((5, 2, 3), np.float32)
    cloud[:, 1, 2] = 1
    p = run(name, series(cloud))
    assert np.isnan(p.s2[0, :, 1, 2].numpy()).all() and p.age[0, 1, 2] == NO_AGE and p.source[0, 1, 2] == Source.REFUSED
    assert np.isfinite(p.s2[0, :, 0].numpy()).all()


def test_one_sided_lines_are_copies_and_causal_looks_back_only():
    cloud = np.zeros((5, 2, 3), np.float32)
    cloud[:2] = 1
    assert run("linear", series(cloud)).s2.numpy() == pytest.approx(0.4)
    for name, value in (("linear", 0.2), ("nearest", 0.2), ("mosaic", 0.15), ("median", 0.15)):
        assert run(name, series(), causal=True).s2.numpy() == pytest.approx(value)


def test_days_is_the_reach_of_the_mosaic():
    assert run("mosaic", series(), days=7).s2.numpy() == pytest.approx(0.4)
    assert run("mosaic", series(), days=2).s2.numpy() == pytest.approx(0.4)  # nobody near: the nearest one


def test_names_and_settings_are_checked():
    with pytest.raises(UsageError, match="least-cloudy"):
        load("least-clouded")
    with pytest.raises(UsageError, match="days"):
        load("mosaic", {"dayz": 3})
    with pytest.raises(UsageError, match="'rule' makes 'mosaic' what it is"):
        load("mosaic", {"rule": "linear"})
    assert set(MODELS) >= {"least-cloudy", "nearest", "mosaic", "median", "linear"}
