"""Scalings against the four code bases, and there and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.parity import Golden
from unclouded.models.scaling import BOTH_25, VV_VH, scale_optical, scale_radar, unscale_optical, unscale_radar

CODE_BASES = {
    "dsen2cr": (VV_VH, 2, 5),
    "glfcr": (VV_VH, 1, 1),
    "crts/default": (BOTH_25, 1, 1),
    "crts/resnet": (VV_VH, 2, 5),
    "uncrtaints/default": (BOTH_25, 1, 1),
    "uncrtaints/resnet": (VV_VH, 2, 5),
}


@pytest.mark.parametrize("name", CODE_BASES)
def test_as_the_code_bases_scale(golden, name):
    g = Golden(golden, "preprocess_ganloss")
    floors, radar, optical = CODE_BASES[name]
    g.check(scale_radar(g("in/s1_dB"), floors, 0, radar), f"out/{name}/s1")
    g.check(scale_optical(g("in/s2_raw") / 10_000, 0, optical), f"out/{name}/s2")


@given(st.floats(0, 1), st.floats(-25, 0), st.floats(-5, 5), st.floats(0.5, 5))
def test_there_and_back(reflectance, db, low, span):
    high = low + span
    s2 = torch.full((13, 1, 1), reflectance)
    assert torch.allclose(unscale_optical(scale_optical(s2, low, high), low, high), s2, atol=1e-5)
    s1 = torch.full((2, 1, 1), db)
    assert torch.allclose(unscale_radar(scale_radar(s1, VV_VH, low, high), VV_VH, low, high), s1, atol=1e-3)


def test_ends_of_the_ranges():
    s1 = torch.tensor([[-30.0, -25, 0, 5], [-40.0, -32.5, 0, 5]])[:, None]
    assert scale_radar(s1, VV_VH, -1, 1).tolist() == [[[-1, -1, 1, 1]], [[-1, -1, 1, 1]]]
    assert scale_optical(torch.tensor([-0.1, 0, 0.5, 1, 1.4]), -1, 1).tolist() == [-1, -1, 0, 1, 1]
