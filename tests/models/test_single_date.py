"""From a batch to a frame: pairing of radar, constants for what was not measured, mirrored borders."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.test_contract import make, sample
from unclouded.models.single_date import FILL_DB, FILL_REFLECTANCE, mirror_to, nearest_radar, target_frame
from unclouded.sample import Batch


@pytest.fixture
def batch():
    return Batch.stack([sample(make("dsen2cr").needs, 8, 8)])


def test_unmeasured_pixels_are_constants(batch):
    frame = target_frame(batch)
    valid = batch.s2_valid[:, 0]
    assert set(frame.s2[:, 3][~valid].tolist()) == {FILL_REFLECTANCE}
    assert torch.equal(frame.s2[:, 3][valid], batch.s2[:, 0, 3][valid])
    assert set(frame.cloud[:, 0][~valid].tolist()) == {1.0}


def test_radar_is_the_nearest_that_measured_the_pixel(batch):
    """S2 on June 1; radar on May 30, June 7 and June 13. Where May 30 has a hole, June 7 stands in."""
    day = batch.s2_days[:, 0]
    valid = torch.ones_like(batch.s1_valid)
    valid[:, 0, 2:4] = False
    valid[:, :, 6] = False
    s1, seen = nearest_radar(replace(batch, s1_valid=valid), day)
    assert torch.equal(s1[:, :, :2], batch.s1[:, 0, :, :2])
    assert torch.equal(s1[:, :, 2:4], batch.s1[:, 1, :, 2:4])
    assert set(s1[:, :, 6].flatten().tolist()) == {FILL_DB}
    assert not seen[:, 6].any()
    assert seen[:, :6].all()


def test_equally_near_radar_takes_the_earlier(batch):
    days = batch.s2_days[:, :1] + torch.tensor([[-3, 3, 9]])
    valid = torch.ones_like(batch.s1_valid)
    s1, _ = nearest_radar(replace(batch, s1_days=days, s1_valid=valid), batch.s2_days[:, 0])
    assert torch.equal(s1, batch.s1[:, 0])


@given(st.integers(1, 9), st.integers(0, 40))
def test_mirroring_by_definition(size, more):
    row = torch.arange(float(size)).view(1, 1, 1, size)
    grown = mirror_to(row, 1, size + more).flatten()
    assert grown[:size].tolist() == row.flatten().tolist()
    if size > 1:
        for i in range(size, size + more):
            back = i % (2 * size - 2)
            assert grown[i] == min(back, 2 * size - 2 - back)
    else:
        assert not grown.any()


def test_fast_says_nothing_new_about_shape(batch):
    remover = make("dsen2cr")
    exact = remover(batch)
    quick = remover.fast()
    assert quick is remover
    assert torch.allclose(quick(batch).s2, exact.s2, atol=0.02)
    assert torch.equal(quick(batch).source, exact.source)
