"""Convolution over few dates with fewer products (S. Winograd: Arithmetic Complexity of Computations, 1980).

A convolution of width 3 gives T dates from T + 2. Written as products of polynomials at T + 2 points it needs T + 2
multiplications where the definition has 3 T: each point is an image convolved with a kernel, and what makes images of dates,
and dates of images, are small matrices. For 5 dates that is 7 convolutions over the image in place of 15.

Points are equally spaced directions (cos, sin), so that none is far away: rounding is about twice that of the definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

Ends = Literal["repeat", "zero"]
TOGETHER = 5  # dates at once: more save little and lose digits
PARTS = ((0, 0), (0, 1), (1, 0), (1, 1))
PHASES = torch.tensor(  # (r, u, a, tap): for row r of 2, pixel u of 2 and its row a of 2, which tap of 3 meets it
    [[[[0.0, 0, 0], [1, 0, 0]], [[0, 1, 0], [0, 0, 1]]], [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 0]]]]
)


def over_dates(x: Tensor, weight: Tensor, stride: int, ends: Ends) -> Tensor:
    """A convolution of width 3 over dates and image: (T, C, H, W), (D, C, 3, 3, 3) -> (T, D, H / stride, W / stride).

    Borders of the image are 0; the first and the last date are repeated, or 0 stands beyond them, as `ends` says.
    """
    return _at_points(x, weight, ends, lambda image, kernel: functional.conv2d(image, kernel, stride=stride, padding=1))


def over_dates_of_double(fine: Tensor, coarse: Tensor, weight: Tensor, ends: Ends) -> Tensor:
    """`over_dates` of fine and, behind it, of coarse with every pixel repeated to 2 x 2.

    fine (T, F, 2 h, 2 w), coarse (T, C, h, w), weight (D, F + C, 3, 3, 3) -> (T, D, 2 h, 2 w). A kernel of 3 x 3 meets only
    2 x 2 pixels of coarse, and where it stands by one pixel's corner says which; the pixels of fine are so many more features.
    """
    phases = PHASES.to(coarse)
    repeated = phases.sum(2)
    split = fine.shape[1]
    d, (h, w) = len(weight), coarse.shape[2:]
    of_fine = torch.einsum("ruai,svbj,dckij->drscabkuv", phases, phases, weight[:, :split]).flatten(3, 5)
    of_coarse = torch.einsum("rui,svj,dckij->drsckuv", repeated, repeated, weight[:, split:])
    corners = torch.cat([of_fine, of_coarse], 3).flatten(0, 2)
    x = torch.cat([functional.pixel_unshuffle(fine, 2), coarse], 1)
    made = _at_points(x, corners, ends, lambda image, kernel: functional.conv2d(image, kernel, padding=1))
    return Interleaved.apply(made.reshape(len(x), d, 2, 2, h + 1, w + 1))  # type: ignore[no-untyped-call]


class Interleaved(torch.autograd.Function):
    """Quarters (..., 2, 2, h + 1, w + 1) to (..., 2 h, 2 w): quarter (r, s) at (y + r, x + s) is pixel (2 y + r, 2 x + s)."""

    @staticmethod
    def forward(ctx: Any, quarters: Tensor) -> Tensor:
        """See the class."""
        *lead, _, _, h, w = ctx.shape = quarters.shape
        made = quarters.new_empty(*lead, 2 * h - 2, 2 * w - 2)
        for r, s in PARTS:
            made[..., r::2, s::2] = quarters[..., r, s, r : h - 1 + r, s : w - 1 + s]
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """See the class."""
        h, w = ctx.shape[-2:]
        into = grads[0].new_empty(ctx.shape)
        for r, s in PARTS:
            into[..., r, s, (h - 1) * (1 - r), :] = 0
            into[..., r, s, :, (w - 1) * (1 - s)] = 0
            into[..., r, s, r : h - 1 + r, s : w - 1 + s] = grads[0][..., r::2, s::2]
        return into


def _at_points(x: Tensor, weight: Tensor, ends: Ends, convolve: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Dates to images at points, each through its own convolution, and back to dates."""
    into, kernel, back = (m.to(x) for m in matrices(len(x), ends))
    images = (into @ x.flatten(1)).reshape(-1, *x.shape[1:]).unsqueeze(1).unbind()
    kernels = torch.einsum("pk,dckij->pdcij", kernel, weight).unbind()
    made = torch.cat([convolve(i, k) for i, k in zip(images, kernels, strict=True)])
    return (back @ made.flatten(1)).reshape(-1, *made.shape[1:])


@cache
def matrices(dates: int, ends: Ends) -> tuple[Tensor, Tensor, Tensor]:
    """Dates to points (P, T), weights to points (P, 3), points to dates (T, P); float64."""
    longer = torch.zeros(dates + 2, dates, dtype=torch.float64)
    longer[1:-1] = torch.eye(dates)
    if ends == "repeat":
        longer[0, 0] = longer[-1, -1] = 1
    parts = torch.arange(dates).chunk(math.ceil(dates / TOGETHER))
    filters = [minimal_filter(len(part)) for part in parts]
    into = [f[0] @ longer[int(part[0]) : int(part[-1]) + 3] for f, part in zip(filters, parts, strict=True)]
    return torch.cat(into), torch.cat([f[1] for f in filters]), torch.block_diag(*(f[2] for f in filters))  # type: ignore[no-untyped-call]


def minimal_filter(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """B (n + 2, n + 2), G (n + 2, 3), A (n, n + 2): y[t] = sum_k w[k] d[t + k] is A ((G w) * (B d)) for t < n.

    The transpose of the product of a polynomial of n terms with one of 3, by their values at n + 2 points.
    """
    values, kernel = at_points(n + 2, n), at_points(n + 2, 3)
    into, back = torch.linalg.inv(at_points(n + 2, n + 2)).T, values.T
    share = (back.norm(dim=0) / into.norm(dim=1)).sqrt()  # both of one size, so neither loses digits
    return into * share[:, None], kernel, back / share


def at_points(points: int, terms: int) -> Tensor:
    """(points, terms): the monomials x^(terms - 1 - j) y^j at equally spaced directions; float64."""
    angle = math.pi * (torch.arange(points, dtype=torch.float64) + 0.5) / points
    power = torch.arange(terms)
    return angle.cos()[:, None] ** power.flip(0) * angle.sin()[:, None] ** power
