"""Comparison with golden arrays: outputs of the authors' own code with stored weights, inputs and gradient norms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Golden:
    """One golden file and the tolerance it came with."""

    def __init__(self, folder: Path, name: str) -> None:
        self.arrays = np.load(folder / f"{name}.npz")
        self.facts: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())

    def __call__(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) + 1 :]: self(k) for k in self.arrays.files if k.startswith(f"{prefix}/")}

    def check(self, ours: Tensor, key: str) -> None:
        """max |a - b| <= max(1e-5 max |b|, 3 x the recorded noise)."""
        theirs = self(key).double()
        noise = self.facts.get("fp32_vs_fp64_maxabs", {}).get(key.split("/")[1], 0.0)
        bound = max(1e-5 * float(theirs.abs().max()), 3 * noise)
        assert ours.shape == theirs.shape
        assert float((ours.detach().double() - theirs).abs().max()) <= bound

    def check_gradients(self, network: nn.Module, prefix: str = "") -> None:
        """Every recorded gradient norm within 1e-4, and no gradient where none was recorded."""
        recorded = {k.removeprefix(prefix): float(v) for k, v in self.group("gradnorm").items()}
        for name, parameter in network.named_parameters():
            norm = 0.0 if parameter.grad is None else float(parameter.grad.double().norm())
            expected = recorded.pop(name, 0.0)
            floor = 1e-6 * max(recorded.values(), default=1.0)  # norms that are zero but for rounding
            assert abs(norm - expected) <= max(1e-4 * expected, floor), (name, norm, expected)
        assert not recorded


def cosdot(y: Tensor) -> Tensor:
    """sum(y cos(0, 1, 2, ...)) / sqrt(n): the loss under which gradient norms of several goldens were taken."""
    wave = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).to(y.dtype)
    return (y.flatten() * wave).sum() / y.numel() ** 0.5
