"""The network of internal learning (Ebel et al. 2022, Fig. 8): a U-Net of 3-D convolutions, made to be trained on the spot.

Frames are (T, C, H, W): dates first, so that one date is a plain image. Dates are never halved, images are. Two rewritings make
an iteration cheaper and change nothing but rounding: convolutions over dates by fewer products (winograd.py), and norm and
activation as one step that keeps two arrays in place of seven.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unclouded.models.winograd import Ends, over_dates, over_dates_of_double

SKIP = 4  # features that pass from encoder to decoder at every level
NORM_EPS = 1e-5
LACKING = 1.5  # 3 taps of a kernel over the 2 that a border leaves
SLOPE = 0.2  # of the activation below 0
IN_CACHE = 1 << 20  # values

Border = tuple[tuple[int, ...], tuple[int, ...]]  # rows and columns


class Network(nn.Module):
    """x (T, c_in, H, W), clear (T, 1, H, W) -> (T, c_out, H, W) in [0, 1].

    `published`: borders in time are 0, and norms look at hidden pixels too.
    """

    def __init__(self, c_in: int, c_out: int, widths: tuple[int, ...], published: bool = False) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.published = published
        ends: Ends = "zero" if published else "repeat"
        self.first = Twice(c_in, widths[0], 1, ends)
        self.down = nn.ModuleList(Twice(a, b, 2, ends) for a, b in pairs)
        self.skip = nn.ModuleList(Mix(a, SKIP) for a, _ in reversed(pairs))
        self.narrow = nn.ModuleList(Mix(b, a) for a, b in reversed(pairs))
        self.up = nn.ModuleList(Up(a, ends) for a, _ in reversed(pairs))
        self.last = Mix(widths[0], c_out)

    def forward(self, x: Tensor, clear: Tensor) -> Tensor:
        """See the class."""
        seen = [torch.ones_like(clear, dtype=torch.float32) if self.published else clear.float()]
        levels = [self.first(x, seen[0])]
        for down in self.down:
            seen.append(functional.avg_pool2d(seen[-1], 2, ceil_mode=True))
            levels.append(down(levels[-1], seen[-1]))
        y = levels.pop()
        for skip, narrow, up, weight in zip(self.skip, self.narrow, self.up, reversed(seen[:-1]), strict=True):
            y = up(skip(levels.pop()), narrow(y), weight)
        return torch.sigmoid(self.last(y))


class Twice(nn.Module):
    """Two convolutions over dates and image, each normalised; (T, C, H, W) -> (T, D, H / stride, W / stride)."""

    def __init__(self, c_in: int, c_out: int, stride: int, ends: Ends) -> None:
        super().__init__()
        self.conv1, self.norm1 = DatesConv(c_in, c_out, stride, ends), ClearNorm(c_out)
        self.conv2, self.norm2 = DatesConv(c_out, c_out, 1, ends), ClearNorm(c_out)

    def forward(self, x: Tensor, clear: Tensor) -> Tensor:
        """`clear` (T, 1, H / stride, W / stride): how much of each pixel is clear."""
        return self.rest(self.conv1(x), clear, self.conv1.border(x))

    def rest(self, x: Tensor, clear: Tensor, border: Border) -> Tensor:
        """What follows the first convolution, `border` being that of its result."""
        share = clear / clear.sum().clamp(min=1e-6)
        y = self.norm1(x, share, border)
        made: Tensor = self.norm2(self.conv2(y), share, self.conv2.border(y))
        return made


class Up(nn.Module):
    """`Twice` on SKIP features of a finer level and all features of the coarser one, whose pixels are repeated."""

    def __init__(self, c: int, ends: Ends) -> None:
        super().__init__()
        self.both = Twice(c + SKIP, c, 1, ends)

    def forward(self, finer: Tensor, coarser: Tensor, clear: Tensor) -> Tensor:
        """(T, SKIP, H, W), (T, C, ceil(H / 2), ceil(W / 2)) -> (T, C, H, W)."""
        whole = finer.shape[-2] == 2 * coarser.shape[-2] and finer.shape[-1] == 2 * coarser.shape[-1]
        if torch.is_autocast_enabled(finer.device.type) or not whole:
            repeated = functional.interpolate(coarser, size=finer.shape[2:], mode="nearest")
            return self.both(torch.cat([finer, repeated], 1), clear)
        first = self.both.conv1
        made = over_dates_of_double(finer, coarser, first.weight, first.ends)
        return self.both.rest(made, clear, first.border(finer))


class DatesConv(nn.Conv3d):
    """A convolution of width 3 over dates and image, without a bias (the norm that follows would take it away).

    `ends`: with the first and the last date repeated it cannot tell which date it looks at. Fewer products need more digits
    than bfloat16 has; there the definition is followed.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, ends: Ends) -> None:
        super().__init__(c_in, c_out, 3, (1, stride, stride), (0, 1, 1), bias=False)
        self.ends: Ends = ends

    def forward(self, input: Tensor) -> Tensor:
        """(T, C, H, W) -> (T, D, H / stride, W / stride)."""
        x = input
        if not torch.is_autocast_enabled(x.device.type):
            return over_dates(x, self.weight, self.stride[2], self.ends)
        beyond = (x[:1], x[-1:]) if self.ends == "repeat" else (torch.zeros_like(x[:1]),) * 2
        made = super().forward(torch.cat([beyond[0], x, beyond[1]]).movedim(0, 1)[None])
        return made[0].movedim(0, 1).contiguous()

    def border(self, x: Tensor) -> Border:
        """Rows and columns of the result of x where taps are missing; none as published, where nothing is done about it."""
        if self.ends == "zero":
            return (), ()
        rows, columns = ((0, -1) if (n - 1) % self.stride[2] == 0 else (0,) for n in x.shape[2:])
        return rows, columns


class Mix(nn.Linear):
    """Every pixel's features mixed: (T, C, H, W) -> (T, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        mixed = torch.baddbmm(self.bias[:, None], self.weight.expand(len(input), -1, -1), input.flatten(2))
        return mixed.reshape(*mixed.shape[:2], *input.shape[2:])


class ClearNorm(nn.Module):
    """Sums at the image's border made as large as those inside (G. Liu et al.: Partial convolution based padding, 2018);
    instance norm by the mean and variance over what is clear; a leaky activation.

    A norm over everything lets the network shift what it gives for clear pixels by what it does at hidden ones, where nothing
    holds it: hidden regions then go astray.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, share: Tensor, border: Border = ((), ())) -> Tensor:
        """(T, C, H, W) and weights (T, 1, H, W) that add up to 1 -> (T, C, H, W). Changes the border of x."""
        return NormLeaky.apply(x, share, self.weight, self.bias, border)  # type: ignore[no-untyped-call]


class NormLeaky(torch.autograd.Function):
    """leaky(weight (x - m) / s + bias), with m and s^2 the mean and variance of x by the weights `share`; per channel.

    With z before the activation, g = dL/dz, n = (x - m) / s:
    dL/dx = weight / s (g - share (sum g + n sum g n)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor, weight: Tensor, bias: Tensor, border: Border) -> Tensor:
        """x (T, C, H, W), share (T, 1, H, W), weight and bias (C,); returns (T, C, H, W) in the arithmetic of x.

        The border of x is changed in place: x must be used nowhere else.
        """
        _larger(x, border)
        mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
        for of_x, of_share in _parts(x, share):
            work = of_x * of_share
            mean += work.sum((0, 2, 3))
            square += work.mul_(of_x).sum((0, 2, 3))
        deviation = ((square - mean.square()).clamp(min=0) + NORM_EPS).sqrt()
        scale = weight / deviation
        y = torch.empty_like(x)
        for of_x, of_y in _parts(x, y):
            torch.addcmul(_wide(bias - mean * scale), of_x, _wide(scale), out=of_y)
            functional.leaky_relu_(of_y, SLOPE)
        ctx.save_for_backward(x, y, share, mean, deviation, scale)
        ctx.border = border
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        """See the class."""
        x, y, share, mean, deviation, scale = ctx.saved_tensors
        total, with_x = torch.zeros_like(mean), torch.zeros_like(mean)
        into = torch.empty_like(x, dtype=mean.dtype)
        for of_x, of_y, of_grad, g in _parts(x, y, grads[0], into):
            g.copy_(_leaky_backward(of_grad, of_y))
            total += g.sum((0, 2, 3))
            with_x += (g * of_x).sum((0, 2, 3))
        with_x = (with_x - mean * total) / deviation
        slope = with_x / deviation
        for of_x, of_share, g in _parts(x, share, into):
            all_pixels = torch.addcmul(_wide(total - mean * slope), of_x, _wide(slope)).mul_(of_share)
            g.sub_(all_pixels).mul_(_wide(scale))
        return _larger(into.to(x.dtype), ctx.border), None, with_x, total, None


def _parts(*arrays: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The dates of arrays of one length, as many at once as stay in the processor's cache from one step to the next."""
    dates = max(1, IN_CACHE // arrays[0][0].numel())
    return zip(*(torch.split(array, dates) for array in arrays), strict=True)


def _larger(x: Tensor, border: Border) -> Tensor:
    for row in border[0]:
        x[..., row, :] *= LACKING
    for column in border[1]:
        x[..., column] *= LACKING
    return x


def _leaky_backward(grad: Tensor, y: Tensor) -> Tensor:
    made: Tensor = torch.ops.aten.leaky_relu_backward(grad, y, SLOPE, True)
    return made


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]
