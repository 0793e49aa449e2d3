"""Shared test set-up: one torch thread per worker, the real samples and large goldens where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set {variable} to the folder of the real samples")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real satellite samples (UNCLOUDED_DATA)."""
    return _folder("UNCLOUDED_DATA", "data")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden arrays (UNCLOUDED_GOLDEN)."""
    return _folder("UNCLOUDED_GOLDEN", "golden")
