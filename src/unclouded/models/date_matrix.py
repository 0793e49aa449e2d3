"""A series as a matrix, one column per date, for the low-rank solvers; and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unclouded.models.scene_solver import Bools, Cube, Floats

Solve = Callable[[Floats, Bools], Floats]  # (data (P, T), known (P, T)) -> the low-rank part (P, T)


def by_dates(cube: Cube, known: Bools, solve: Solve) -> tuple[Floats, Bools]:
    """`solve` on pixels and bands x dates. Dates of which nothing is `known` (T, H, W) take no part.

    Returns all dates (T, C, H, W), NaN where no date knows the pixel, and which dates took part (T,).
    """
    c, h, w = cube.x.shape[1:]
    part: Bools = np.asarray(known.any((1, 2)))
    series: Floats = np.full(cube.x.shape, np.nan, np.float32)
    if not part.any():
        return series, part
    pixels: Bools = np.asarray(known.any(0))
    x = np.ascontiguousarray(np.moveaxis(cube.x[part][:, :, pixels], 0, -1)).reshape(-1, int(part.sum()))
    k = np.broadcast_to(np.moveaxis(known[part][:, pixels], 0, -1), (c, int(pixels.sum()), int(part.sum())))
    found = solve(np.where(k.reshape(x.shape), x, np.float32(0)), np.ascontiguousarray(k).reshape(x.shape))
    wide = np.moveaxis(found.reshape(c, -1, x.shape[1]), -1, 0)
    filled = np.full((x.shape[1], c, h, w), np.nan, np.float32)
    filled[:, :, pixels] = wide
    series[part] = filled
    return series, part
