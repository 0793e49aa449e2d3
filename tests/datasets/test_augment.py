"""Augmentation keeps image, radar, cloud, masks and target aligned, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.datasets.augment import TRANSFORMS, Augment, crop, flip, turn
from unclouded.errors import InputUnsupported
from unclouded.sample import Place, Sample, as_days


def numbered(height: int, width: int, *, seed: int = 0) -> Sample:
    """Every field of a pixel carries the pixel's own number, so that any misalignment shows."""
    number = np.random.default_rng(seed).permutation(height * width).reshape(height, width).astype(np.float32)
    part = number / (height * width)
    times = (2, height, width)
    return Sample(
        place=Place(id="numbers", bands=("B02", "B08"), level="L1C"),
        s2=np.tile(part, (2, 2, 1, 1)),
        s2_valid=np.tile(part > 0.1, (2, 1, 1)),
        s2_dates=as_days(["2020-01-01", "2020-01-06"]),
        s1=np.tile(-1 - part, (3, 2, 1, 1)),
        s1_valid=np.tile(part > 0.2, (3, 1, 1)),
        s1_dates=as_days(["2020-01-01", "2020-01-02", "2020-01-03"]),
        cloud=np.tile(part, (2, 1, 1)),
        scl=np.broadcast_to(number % 12, times).astype(np.uint8),
        given=np.tile(part, (2, 1, 1)),
        target=np.tile(part, (2, 1, 1)),
        target_valid=part > 0.3,
        target_index=1,
        target_date=np.datetime64("2020-01-06"),
    )


def aligned(sample: Sample, size: int) -> bool:
    part = sample.s2[0, 0]
    return bool(
        (sample.s2 == part).all() and (sample.s2_valid == (part > 0.1)).all() and (sample.s1 == -1 - part).all()
        and (sample.s1_valid == (part > 0.2)).all() and (sample.cloud == part).all() and (sample.given == part).all()
        and (sample.target == part).all() and (sample.target_valid == (part > 0.3)).all()
        and (sample.scl == np.rint(part * size) % 12).all()
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(-5, 5), st.integers(0, 9))
def test_every_field_moves_together(height: int, width: int, rows: bool, cols: bool, quarters: int, seed: int) -> None:
    sample = numbered(height, width, seed=seed)
    moved = turn(flip(sample, rows=rows, cols=cols), quarters)
    assert aligned(moved, height * width)
    assert sorted(moved.s2[0, 0].ravel()) == sorted(sample.s2[0, 0].ravel())
    assert moved.shape == ((height, width) if quarters % 2 == 0 else (width, height))
    assert np.array_equal(moved.s2_dates, sample.s2_dates) and moved.target_index == 1
    back = flip(turn(moved, -quarters), rows=rows, cols=cols)
    assert np.array_equal(back.s2, sample.s2) and np.array_equal(back.scl, sample.scl)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 9))
def test_a_seed_decides_and_the_crop_lies_inside(seed: int, size: int) -> None:
    sample, change = numbered(9, 13), Augment(size=size)
    one, two = change(sample, seed), change(sample, seed)
    assert np.array_equal(one.s2, two.s2) and one.shape == (size, size) and aligned(one, 9 * 13)
    assert np.isin(one.s2[0, 0], sample.s2[0, 0]).all()


def test_all_eight_positions_and_all_corners_occur() -> None:
    sample = numbered(5, 5)
    seen = {Augment()(sample, seed).s2[0, 0].tobytes() for seed in range(200)}
    assert len(seen) == 8
    corners = {float(Augment(size=4, flips=False, turns=False)(sample, seed).s2[0, 0, 0, 0]) for seed in range(100)}
    assert corners == {float(v) for v in sample.s2[0, 0, :2, :2].ravel()}


def test_the_papers_transforms() -> None:
    sample = numbered(256, 256)
    centre = TRANSFORMS["ebel2020"](sample, 3)
    assert np.array_equal(centre.s2, sample.s2[..., 28:228, 28:228])
    assert TRANSFORMS["glfcr2022"](sample, 3).shape == (128, 128) and TRANSFORMS["meraner2020"](sample, 3).shape == (256, 256)


def test_a_flipped_sample_is_off_the_map_and_a_crop_stays_on_it() -> None:
    from unclouded.datasets.simulated import simulate

    sample = simulate(size=(20, 24), dates=1).sample
    assert flip(sample, rows=True).place.grid is None and turn(sample, 1).place.grid is None
    assert turn(sample, 4) is sample and flip(sample) is sample
    part = crop(sample, 8, row=2, col=5)
    assert part.place.grid == sample.place.grid[2:10, 5:13]


@pytest.mark.parametrize(("size", "row"), [(0, 0), (10, None), (5, 6), (5, -1)])
def test_a_crop_that_does_not_fit_is_refused(size: int, row: int | None) -> None:
    with pytest.raises(InputUnsupported, match="does not fit into 9 x 13"):
        crop(numbered(9, 13), size, row=row)
