"""What a plan can tell of its options before anything is made: the errors of `remove_clouds`, without reading pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unclouded.masks import MASKS
from unclouded.masks.detect import check_margin
from unclouded.masks.detection import require
from unclouded.models import DEFAULT, load, weights_file
from unclouded.products.fill import layers_of
from unclouded.remove import given_masks
from unclouded.sample import Cover

if TYPE_CHECKING:
    from unclouded.models.needs import Needs
    from unclouded.scenes.scene import Scene


def settled(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with their paths made absolute, for runs that start elsewhere. Raises what is wrong with them for any place."""
    check_margin(options.get("grow", 0.0))
    found = dict(options)
    if given_mask(options) is not None:
        found["mask"] = str(Path(options["mask"]).absolute())
    name, weights = options.get("model", DEFAULT), options.get("weights")
    if weights is None and weights_file(name) is not None:
        found["model"] = str(Path(name).absolute())
    if weights is not None:
        found["weights"] = str(Path(weights).absolute())
    return found


def needs_of(options: Mapping[str, Any]) -> Needs:
    """What the model asks for. Raises what `load` raises."""
    return load(options.get("model", DEFAULT), options.get("settings"), options.get("weights")).needs


def given_mask(options: Mapping[str, Any]) -> Any:
    """The mask file, as `open_scene` takes it; None where a detector is named. Raises InputMissing for neither."""
    return given_masks(options.get("mask", "auto"), None, True)


def check_place(scene: Scene, options: Mapping[str, Any], needs: Needs, *, spanned: bool = False) -> None:
    """Whether the options can be used for a place. `spanned`: units read some of its dates only, so many are not too many.

    Raises UsageError, InputUnsupported.
    """
    mask = str(options.get("mask", "auto"))
    if mask in MASKS:
        require(scene.place, mask, MASKS[mask].bands)
    layers_of(scene, scene.dates[0], options.get("resolution"))
    dates = scene.dates[: needs.dates[1]] if spanned else scene.dates
    classes = np.broadcast_to(np.uint8(Cover.CLEAR), (len(dates), *scene.shape))  # there will be some
    needs.check(replace(scene, dates=dates, masks=None).with_masks(classes))
