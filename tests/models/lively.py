"""Weights that are far from a fresh start: every layer passes signals of order one, so small differences show."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn


def lively(network: nn.Module, seed: int = 7, gain: float = 1.0) -> dict[str, Tensor]:
    """A state dict drawn per name: kernels of variance gain^2 / fan-in, small biases, norms near one."""
    return {name: _drawn(name, tensor, seed, gain) for name, tensor in network.state_dict().items()}


def _drawn(name: str, like: Tensor, seed: int, gain: float) -> Tensor:
    if not like.is_floating_point():
        return like.clone()
    x = np.random.default_rng((crc32(name.encode()), seed)).standard_normal(tuple(like.shape)).astype(np.float32)
    if name.endswith("running_var"):
        x = 0.5 + 0.5 * np.abs(x)
    elif like.dim() >= 2:
        x = gain * x / np.sqrt(np.float32(np.prod(like.shape[1:])))
    elif name.endswith(("bias", "running_mean")):
        x = 0.1 * x
    else:
        x = 1 + 0.1 * x
    return torch.from_numpy(np.asarray(x, np.float32))
