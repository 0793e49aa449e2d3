"""Samples as others want them: a picture to look at, and torchgeo's dictionary of tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputUnsupported
from unclouded.sample import HIDDEN_FROM, Sample

if TYPE_CHECKING:
    import torch

TRUE_COLOUR = ("B04", "B03", "B02")


def as_torchgeo(sample: Sample) -> dict[str, torch.Tensor]:
    """The sample as torchgeo expects it: keys that its augmentations move begin with `image` or `mask`.

    `image_s2` (T * C, H, W) reflectance, date after date; `image_s1` (T1 * 2, H, W) dB, where there is radar; `mask` (C, H, W)
    the target, where there is one; `mask_cloud` (T, H, W) 0 or 1, where clouds are known.
    """
    import torch

    height, width = sample.shape
    view = {"image_s2": torch.from_numpy(sample.s2.reshape(-1, height, width))}
    if sample.s1 is not None:
        view["image_s1"] = torch.from_numpy(sample.s1.reshape(-1, height, width))
    if sample.target is not None:
        view["mask"] = torch.from_numpy(sample.target)
    if sample.cloud is not None:
        view["mask_cloud"] = torch.from_numpy((sample.cloud >= HIDDEN_FROM).astype(np.int64))
    return view


def panels(sample: Sample) -> dict[str, NDArray[np.uint8]]:
    """Pictures (H, W, 3) of every date, its nearest radar, its cloud, and the target; one stretch for all optical ones.

    Raises InputUnsupported without red, green and blue.
    """
    if not set(TRUE_COLOUR) <= set(sample.place.bands):
        raise InputUnsupported("A true-colour picture needs B04, B03 and B02.", where=sample.place.id)
    rgb = [sample.place.bands.index(b) for b in TRUE_COLOUR]
    ground = sample.s2[:, rgb][np.broadcast_to(sample.clear()[:, None], sample.s2[:, rgb].shape)]
    low, high = np.percentile(ground if sample.target is None and ground.size else _all(sample)[rgb], [1, 99])
    radar, seen = sample.paired(400)
    out: dict[str, NDArray[np.uint8]] = {}
    for t, day in enumerate(sample.s2_dates):
        out[f"{day}"] = _stretched(sample.s2[t, rgb], low, high)
        if seen[t].any():
            vv, vh = radar[t]
            out[f"{day} S1"] = _bytes(np.stack([(vv + 20) / 20, (vh + 26) / 20, (vv - vh - 2) / 12]))
        if sample.cloud is not None:
            out[f"{day} cloud"] = _bytes(np.repeat(sample.cloud[t][None], 3, 0))
    if sample.target is not None:
        out["target"] = _stretched(sample.target[rgb], low, high)
    return out


def plot(sample: Sample, path: Path) -> None:
    """Write the panels of a sample side by side, with their titles, as a PNG."""
    from matplotlib.figure import Figure

    pictures = panels(sample)
    columns = min(len(pictures), 6)
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, picture) in zip(grid.flat, pictures.items(), strict=False):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=8)
    figure.savefig(path, dpi=110)


def _all(sample: Sample) -> NDArray[np.float32]:
    return sample.target if sample.target is not None else np.moveaxis(sample.s2, 1, 0).reshape(sample.s2.shape[1], -1)


def _stretched(image: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    return _bytes((image - low) / max(high - low, 1e-6))


def _bytes(unit: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.moveaxis(np.clip(unit, 0, 1) * 255, 0, -1).round().astype(np.uint8)
