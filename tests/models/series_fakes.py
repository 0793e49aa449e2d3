"""Tiny random series for the tests of networks and solvers, and the goldens' weight recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unclouded.bands import L1C
from unclouded.sample import Batch, Place, Sample, as_days


def series(
    t: int = 4,
    size: tuple[int, int] = (16, 16),
    bands: tuple[str, ...] = L1C,
    *,
    seed: int = 0,
    sar: bool = True,
    step: int = 7,
) -> Sample:
    """Random ground and clouds, a radar date one day after each optical date; the target is date t // 2."""
    rng = np.random.default_rng(seed)
    h, w = size
    cloud = np.zeros((t, h, w), np.float32)
    for i in range(t):
        r, c = rng.integers(0, max(h // 2, 1)), rng.integers(0, max(w // 2, 1))
        cloud[i, r : r + h // 2, c : c + w // 2] = 1
    days = as_days([np.datetime64("2018-03-01") + 7 * i for i in range(t)])
    radar: dict[str, Any] = {}
    if sar:
        radar = {
            "s1": rng.uniform(-24, -4, (t, 2, h, w)).astype(np.float32),
            "s1_valid": np.ones((t, h, w), bool),
            "s1_dates": days + 1,
        }
    return Sample(
        place=Place(id="fake", bands=bands, level="L1C"), s2=rng.uniform(0, 0.6, (t, len(bands), h, w)).astype(np.float32),
        s2_valid=np.ones((t, h, w), bool), s2_dates=days, cloud=cloud, target_date=days[t // 2], target_index=t // 2, **radar,
    )  # fmt: skip


def batch(*samples: Sample) -> Batch:
    """Samples stacked."""
    return Batch.stack(samples)


def permuted(sample: Batch, order: list[int]) -> Batch:
    """The optical dates of a batch in another order."""
    at = torch.tensor([order.index(int(i)) for i in sample.target_index]) if sample.target_index is not None else None
    return replace(
        sample, s2=sample.s2[:, order], s2_valid=sample.s2_valid[:, order], s2_days=sample.s2_days[:, order],
        cloud=None if sample.cloud is None else sample.cloud[:, order], target_index=at,
    )  # fmt: skip


def with_empty_date(sample: Sample, value: float) -> Sample:
    """The series with one more date at the end that measured nothing; `value` lies under its invalid pixels."""
    s2 = np.concatenate([sample.s2, np.full_like(sample.s2[:1], value)])
    valid = np.concatenate([sample.s2_valid, np.zeros_like(sample.s2_valid[:1])])
    assert sample.cloud is not None
    cloud = np.concatenate([sample.cloud, np.zeros_like(sample.cloud[:1])])
    dates = np.append(sample.s2_dates, sample.s2_dates[-1] + 3)
    return replace(sample, s2=s2, s2_valid=valid, cloud=cloud, s2_dates=dates)


class Golden:
    """Arrays of one golden file, as tensors."""

    def __init__(self, folder: Path, name: str) -> None:
        with np.load(folder / f"{name}.npz") as file:
            self.arrays = {key: torch.from_numpy(np.asarray(file[key])) for key in file}
        noise = json.loads((folder / f"{name}.json").read_text())["fp32_vs_fp64_maxabs"]
        self.noise = noise if isinstance(noise, float) else 0.0

    def __getitem__(self, key: str) -> torch.Tensor:
        return self.arrays[key]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The state dict."""
        return {key[2:]: value for key, value in self.arrays.items() if key.startswith("w/")}

    def assert_near(self, found: torch.Tensor, key: str) -> None:
        """Within the goldens' tolerance: 1e-5 of the largest value, or 3 times the recorded noise."""
        wanted = self[key]
        allowed = max(1e-5 * float(wanted.abs().max()), 3 * self.noise)
        assert float((found.detach() - wanted).abs().max()) <= allowed

    def assert_gradients(self, network: torch.nn.Module) -> None:
        """Gradient norms of all parameters within 1e-4 relative (or 1e-6 of the largest: some are zero by symmetry)."""
        norms = {name: float(p.grad.norm()) for name, p in network.named_parameters() if p.grad is not None}
        wanted = {name: float(self[f"gradnorm/{name}"]) for name in norms}
        least = 1e-6 * max(wanted.values())
        assert norms
        wrong = {k: (norms[k], wanted[k]) for k in norms if abs(norms[k] - wanted[k]) > 1e-4 * wanted[k] + least}
        assert not wrong
