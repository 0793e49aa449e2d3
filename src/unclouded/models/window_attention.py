"""Attention in windows for two streams, where radar guides how optical tokens look at each other (Xu et al. 2022, section 4.2).

Windows alternate between layers as in Swin (Liu et al. 2021). Memory is bounded: they are worked off in chunks, whose attention
maps, on a processor, stay in its cache.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

Streams = tuple[Tensor, Tensor | None]  # optical and radar features

MASKED = -100.0  # added to the logits of tokens that the shift brought together from opposite borders
WINDOWS_AT_ONCE = 512  # bounds memory; on a processor fewer, so that their attention maps stay in its cache
WINDOWS_IN_CACHE = 16


class WindowAttention(nn.Module):
    """Self-attention in windows of both streams; radar's logits refine the optical ones through a gate (equations 7-9)."""

    relative: Tensor

    def __init__(
        self, width: int, heads: int, window: int, *, shifted: bool, two_streams: bool, guided: bool, sigmoid: bool
    ) -> None:
        super().__init__()
        if not heads or width % heads:
            raise ValueError(f"{width} channels cannot be shared among {heads} heads")
        self.heads, self.window, self.shifted, self.guided, self.sigmoid = heads, window, shifted, guided, sigmoid
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if two_streams:
            self.qkv_SAR, self.proj_SAR = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if guided:
            self.attn_fuse_1x1conv = nn.Conv2d(heads, heads, 1)
        self.register_buffer("relative", relative_index(self.window), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The table of relative positions starts as a truncated normal of 0.02; the layers draw by themselves."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, tokens: Tensor, tokens_sar: Tensor | None) -> Streams:
        """(B, h, w, G) twice -> the same; h and w multiples of the window."""
        h, w = tokens.shape[1:3]
        shift = self.window // 2 if self.shifted and min(h, w) > self.window else 0
        mask = shift_mask(h, w, self.window, shift).to(tokens) if shift else None
        n = self.window**2
        bias = self.relative_position_bias_table[self.relative.flatten()].view(n, n, self.heads).permute(2, 0, 1)[:, None]
        x, s = self._windows(tokens, shift), None if tokens_sar is None else self._windows(tokens_sar, shift)
        step = WINDOWS_IN_CACHE if tokens.device.type == "cpu" else WINDOWS_AT_ONCE
        parts = []
        for at in range(0, len(x), step):
            added = bias if mask is None else bias + mask[torch.arange(at, min(at + step, len(x)), device=x.device) % len(mask)]
            parts.append(self._attend(x[at : at + step], None if s is None else s[at : at + step], added))
        optical = self._image([part[0] for part in parts], h, w, shift)
        return optical, None if s is None else self._image([part[1] for part in parts if part[1] is not None], h, w, shift)

    def _windows(self, tokens: Tensor, shift: int) -> Tensor:
        """(B, h, w, G) -> (windows of all images, tokens, G), after the shift."""
        rolled = torch.roll(tokens, (-shift, -shift), (1, 2)) if shift else tokens
        return rearrange(rolled, "b (y p) (x q) g -> (b y x) (p q) g", p=self.window, q=self.window)

    def _image(self, parts: list[Tensor], h: int, w: int, shift: int) -> Tensor:
        n, layout = self.window, "(b y x) (p q) g -> b (y p) (x q) g"
        tokens = rearrange(torch.cat(parts), layout, p=n, q=n, y=h // n, x=w // n)
        return torch.roll(tokens, (shift, shift), (1, 2)) if shift else tokens

    def _attend(self, x: Tensor, s: Tensor | None, added: Tensor) -> Streams:
        """Some windows (windows, tokens, G) of both streams -> the same.

        `added` (bias and mask) is the same in both streams, so it cancels in the gate's input and is added last.
        """
        q, k, v = self._heads(self.qkv(x))
        logits = _logits(q, k)
        if s is None:
            return self.proj(_weighted(logits.add_(added), v)), None
        q, k, v_sar = self._heads(self.qkv_SAR(s))
        logits_sar = _logits(q, k)
        if self.guided:
            difference = logits_sar - logits
            logits = torch.addcmul(logits, difference, self._gate(difference).to(logits.dtype))
        return self.proj(_weighted(logits.add_(added), v)), self.proj_SAR(_weighted(logits_sar.add_(added), v_sar))

    def _heads(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """(windows, tokens, 3 G) -> q, k, v, each (heads, windows, tokens, G / heads)."""
        return rearrange(qkv, "w t (three n d) -> three n w t d", three=3, n=self.heads).contiguous().unbind()

    def _gate(self, difference: Tensor) -> Tensor:
        """How much of the difference to add: a convolution over the heads, which lead, is one matrix product."""
        weight, bias = self.get_parameter("attn_fuse_1x1conv.weight"), self.get_parameter("attn_fuse_1x1conv.bias")
        mixed = torch.addmm(bias[:, None], weight[:, :, 0, 0], difference.flatten(1))
        return (torch.sigmoid(mixed) if self.sigmoid else torch.softmax(mixed, 0)).view_as(difference)


def _logits(q: Tensor, k: Tensor) -> Tensor:
    """q k / sqrt(d): (heads, windows, tokens, tokens)."""
    return (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)


def _weighted(logits: Tensor, values: Tensor) -> Tensor:
    """softmax(logits) values, heads joined: (windows, tokens, G). As a transposed product, four times faster on processors."""
    out = values.transpose(-1, -2) @ torch.softmax(logits, -1).transpose(-1, -2)
    return rearrange(out, "n w d t -> w t (n d)")


def relative_index(window: int) -> Tensor:
    """(tokens, tokens) int64: the row of the bias table for every pair of tokens of a window."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    y, x = y.flatten(), x.flatten()
    rows = y[:, None] - y[None] + window - 1
    return rows * (2 * window - 1) + x[:, None] - x[None] + window - 1


def shift_mask(h: int, w: int, window: int, shift: int) -> Tensor:
    """(windows, tokens, tokens): 0 where two tokens were neighbours before the shift, MASKED where they were not."""
    label = 3 * _region(h, window, shift)[:, None] + _region(w, window, shift)[None]
    labels = rearrange(label, "(y p) (x q) -> (y x) (p q)", p=window, q=window)
    return (labels[:, :, None] != labels[:, None]).float() * MASKED


def _region(size: int, window: int, shift: int) -> Tensor:
    at = torch.arange(size)
    return (at >= size - window).long() + (at >= size - shift).long()
