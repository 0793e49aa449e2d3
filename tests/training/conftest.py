"""Simulated samples are made once for all tests of training."""

from __future__ import annotations

from functools import lru_cache

import pytest

from unclouded.datasets.offline import SimulatedTriplets
from unclouded.training.samples import SimulatedTuples


@pytest.fixture(scope="session", autouse=True)
def _made_once():
    patch = pytest.MonkeyPatch()
    for kind in (SimulatedTriplets, SimulatedTuples):
        patch.setattr(kind, "__getitem__", lru_cache(maxsize=512)(kind.__getitem__))
    yield
    patch.undo()
