"""s2cloudless against the arrays of its own package."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="the extra 'masks' is not installed")

from masks.test_threshold import CASES, _counts
from masks.fakes import ground, image, sample
from unclouded.bands import L1C, L2A
from unclouded.errors import InputUnsupported
from unclouded.masks import s2cloudless as s
from unclouded.masks.detect import detect
from unclouded.sample import Cover
from unclouded.scenes.scene import Scene

AT = [L1C.index(name) for name in s.BANDS]


@pytest.fixture(scope="module")
def arrays(golden):
    return dict(np.load(golden / "s2cloudless.npz")) | {
        f"in/{k}": v for k, v in {"synthetic": np.load(golden / "masks_meraner.npz")["in/synthetic"]}.items()
    }


@pytest.mark.parametrize("case", [*CASES, "noise"])
def test_the_package_is_met(case, arrays, data):
    counts = arrays["in/noise"] if case == "noise" else _counts(case, arrays, data)
    bands = (counts.clip(0, 10_000) / 10_000).astype(np.float32)[AT] if counts.max() > 2 else counts[AT]
    valid = np.ones(counts.shape[1:], bool)
    prob = s.probability(bands, valid)
    np.testing.assert_allclose(prob, arrays[f"out/{case}/prob"], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(s.mask_of(arrays[f"out/{case}/prob"], valid), arrays[f"out/{case}/mask_avg4_dil2"] > 0)
    np.testing.assert_array_equal(s.mask_of(prob, valid), arrays[f"out/{case}/mask_avg4_dil2"] > 0)
    np.testing.assert_array_equal(s.mask_of(prob, valid, average_over=0, dilation=0), arrays[f"out/{case}/mask_raw"] > 0)
