"""Adapter to OmniCloudMask (Wright et al. 2025), a network for cloud and shadow on red, green and near infrared, if installed.

It normalises every patch by itself, so a scene is judged on patches of one fixed lattice: the result does not depend on how
the scene is cut. It is never a dependency: it fetches its own weights on first use and brings torchvision with it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputMissing
from unclouded.masks.detection import Detection, Look, require, with_nodata
from unclouded.sample import Cover, Sample, Window

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

BANDS = ("B04", "B03", "B08")
CODES = np.array([Cover.CLEAR, Cover.THICK, Cover.THIN, Cover.SHADOW], np.uint8)  # its 0, 1, 2, 3
PATCH, MARGIN = 1000, 200  # pixels: of the lattice, and of context around each patch


def omnicloudmask(sample: Sample) -> Detection:
    """Cloud and shadow of every date. Raises InputMissing without the package, InputUnsupported without its bands."""
    require(sample.place, "omnicloudmask", BANDS)
    if find_spec("omnicloudmask") is None:
        raise InputMissing("OmniCloudMask is not installed.", do="pip install omnicloudmask, or use --mask auto.")
    predict = import_module("omnicloudmask").predict_from_array
    at = [sample.place.bands.index(name) for name in BANDS]
    classes = np.zeros(sample.s2_valid.shape, np.uint8)
    for t, valid in enumerate(sample.s2_valid):
        if valid.any():
            image = np.where(valid, np.maximum(sample.s2[t, at], np.float32(1e-4)), np.float32(0))  # 0 is its no-data value
            classes[t] = CODES[np.asarray(predict(image)).reshape(valid.shape).astype(np.intp)]
    return Detection(classes=with_nodata(classes, sample.s2_valid))


def of_scene(scene: Scene, i: int, threads: int = 1) -> Look:  # noqa: ARG001 - the network has threads of its own
    """Classes of date i, patch by patch on the lattice of the whole scene (one byte per pixel is kept)."""
    require(scene.place, "omnicloudmask", BANDS)
    classes: NDArray[np.uint8] = np.zeros((1, *scene.shape), np.uint8)
    for window in scene.blocks(PATCH):
        around = window.grow(MARGIN, scene.shape)
        found = omnicloudmask(scene.read(around, only=[i])).classes
        classes[(0, *window.slices)] = found[(0, *window.inside(around).slices)]

    def look(window: Window) -> Detection:
        return Detection(classes=classes[(slice(None), *window.slices)])

    return look
