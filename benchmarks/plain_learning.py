"""Internal learning as one would write it first: the same network and loss in plain float32 layers of torch, nothing else.

What `series_solvers.py --speed` compares with, and what tells that the faster form computes the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unclouded.models.internal_learning import Config, Fit
from unclouded.models.internal_network import NORM_EPS, SKIP, SLOPE


class PlainNorm(nn.Module):
    """Over the clear pixels of all dates."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, clear: Tensor) -> Tensor:
        """(1, C, T, H, W), (1, 1, T, H, W) -> (1, C, T, H, W)."""
        share = clear / clear.sum()
        mean = (x * share).sum((2, 3, 4), keepdim=True)
        variance = ((x - mean) ** 2 * share).sum((2, 3, 4), keepdim=True)
        n = (x - mean) / torch.sqrt(variance + NORM_EPS)
        return n * self.weight[:, None, None, None] + self.bias[:, None, None, None]


class PlainTwice(nn.Module):
    """Two convolutions that repeat the first and the last date."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(c_in, c_out, 3, (1, stride, stride), (0, 1, 1), bias=False)
        self.conv2 = nn.Conv3d(c_out, c_out, 3, 1, (0, 1, 1), bias=False)
        self.norm1, self.norm2 = PlainNorm(c_out), PlainNorm(c_out)

    def forward(self, x: Tensor, clear: Tensor) -> Tensor:
        """(1, C, T, H, W), (1, 1, T, h, w) -> (1, D, T, h, w)."""
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            taps = functional.conv2d(torch.ones(1, 1, *x.shape[3:]), torch.ones(1, 1, 3, 3), stride=conv.stride[1:], padding=1)
            x = functional.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")
            x = functional.leaky_relu(norm(conv(x) * (9 / taps[0]), clear), SLOPE)
        return x


class PlainNetwork(nn.Module):
    """(1, c_in, T, H, W) -> (1, c_out, T, H, W)."""

    def __init__(self, c_in: int, c_out: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(zip(widths, widths[1:]))  # noqa: B905, RUF007
        self.first = PlainTwice(c_in, widths[0], 1)
        self.down = nn.ModuleList(PlainTwice(a, b, 2) for a, b in pairs)
        self.skip = nn.ModuleList(nn.Conv3d(a, SKIP, 1) for a, _ in pairs[::-1])
        self.narrow = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in pairs[::-1])
        self.up = nn.ModuleList(nn.ModuleDict({"both": PlainTwice(a + SKIP, a, 1)}) for a, _ in pairs[::-1])
        self.last = nn.Conv3d(widths[0], c_out, 1)

    def forward(self, x: Tensor, clear: Tensor) -> Tensor:
        """See the class."""
        seen, levels = [clear.float()], [self.first(x, clear.float())]
        for down in self.down:
            seen.append(functional.avg_pool3d(seen[-1], (1, 2, 2), ceil_mode=True))
            levels.append(down(levels[-1], seen[-1]))
        y = levels.pop()
        for i, up in enumerate(self.up):
            finer = levels.pop()
            y = functional.interpolate(self.narrow[i](y), size=finer.shape[2:])
            y = up["both"](torch.cat([self.skip[i](finer), y], 1), seen[len(levels)])
        return torch.sigmoid(self.last(y))


class PlainFit:
    """The loop over the data of a `Fit`, from the same weights."""

    def __init__(self, fit: Fit) -> None:
        self.config: Config = fit.config
        data = (fit.drive, fit.truth, fit.learn, fit.held)
        self.drive, self.truth, self.learn, self.held = (v.movedim(0, 1)[None] for v in data)
        self.draw = torch.Generator().manual_seed(0)
        widths = tuple(m.conv2.weight.shape[0] for m in (fit.network.first, *fit.network.down))
        self.network = PlainNetwork(self.drive.shape[1], self.truth.shape[1], widths)
        own = self.network.state_dict()
        self.network.load_state_dict({k: v.reshape(own[k].shape) for k, v in fit.network.state_dict().items()})
        self.adam = torch.optim.Adam(self.network.parameters(), self.config.rate)

    def step(self) -> Tensor:
        """One iteration; the output before it learned, (T, C, H, W)."""
        c = self.config
        clear = self.learn | self.held
        noise = torch.randn(self.drive[0].movedim(0, 1).shape, generator=self.draw).movedim(0, 1)[None]
        output = self.network(self.drive + c.jitter * noise, clear)
        loss = ((output - self.truth) ** 2 * self.learn).sum() / (self.learn.sum() * self.truth.shape[1])
        hidden = ~(clear[:, :, 1:] & clear[:, :, :-1])
        unrest = ((output[:, :, 1:] - output[:, :, :-1]) ** 2 * hidden).sum() / (hidden.sum() * self.truth.shape[1])
        self.adam.zero_grad()
        (loss + c.quiet * unrest).backward()
        self.adam.step()
        return output.detach()[0].movedim(0, 1)
