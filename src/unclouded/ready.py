"""What can be refused before the work: a run and its `--dry-run` ask the same questions here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unclouded.errors import InputMissing, UsageError
from unclouded.models import load
from unclouded.options import from_zero

if TYPE_CHECKING:
    from unclouded.models.needs import CloudRemover
    from unclouded.products.fill import Limits
    from unclouded.scenes.scene import Scene


def loaded(
    model: str,
    settings: Mapping[str, Any] | None,
    weights: str | PathLike[str] | None,
    *,
    device: str = "auto",
    fast: bool = False,
) -> CloudRemover:
    """The remover, where it will compute. Raises UsageError, and what loading raises."""
    from unclouded.models.running import place_on

    remover = place_on(device, load(model, settings, weights), model)
    return quickened(remover, model) if fast else remover


def quickened(remover: CloudRemover, model: str) -> CloudRemover:
    """The remover with its faster arithmetic. Raises UsageError where it has none."""
    faster: Callable[[], CloudRemover] | None = getattr(remover, "fast", None)
    if faster is None:
        raise UsageError(f"'{model}' has no faster arithmetic.", do="leave --fast out: it is for single-image networks.")
    return faster()


def limits_of(max_age: int | None, max_sigma: float | None, fill_nodata: bool) -> Limits:
    """What is refused rather than guessed. Raises UsageError for a limit that is not a number from 0 on."""
    from unclouded.products.fill import Limits

    for option, value in (("--max-age", max_age), ("--max-sigma", max_sigma)):
        if value is not None:
            from_zero(option, value)
    return Limits(max_age=max_age, max_sigma=max_sigma, nodata=fill_nodata)


def check_work(
    remover: CloudRemover,
    scene: Scene,
    dates: Sequence[np.datetime64],
    out: Path,
    *,
    limits: Limits,
    resolution: float | None = None,
    scene_model: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> None:
    """Whether `dates` of a scene without masks can be restored as asked, and written to `out`. Writes nothing.

    Raises UsageError (options that exclude each other, a product or an unfinished run that is there), InputMissing (no scene
    model), InputUnsupported (what the remover needs, layers that do not go together), OutputFailed (in use, not readable).
    """
    from unclouded.products.fill import layers_of
    from unclouded.products.journal import disk_errors
    from unclouded.products.product import refuse_to_lose

    if limits.nodata and "outline" in scene.decisions["grid"]:
        raise UsageError("--fill-nodata would rebuild what lies outside the --aoi.", do="give the area as --bbox.")
    replace(remover.needs, cloud=False).check(scene)  # the masks are still to be made
    if scene_model is not None:
        _check_scene_model(remover, scene_model)
    for day in dates:
        layers_of(scene, day, resolution)
        with disk_errors(out):
            refuse_to_lose(out / str(day), scene)
        if not (overwrite or resume):
            _check_place(out, day)


def _check_scene_model(remover: CloudRemover, path: Path) -> None:
    from unclouded.models.scene_engine import SceneEngine

    if not isinstance(remover, SceneEngine):
        raise UsageError("Only the default model learns a scene model.", do="leave --scene-model out, or --model.")
    if not path.exists():
        raise InputMissing("There is no scene model here.", where=path, do="give the scene-model file of a product.")


def _check_place(out: Path, day: np.datetime64) -> None:
    """Raises UsageError where something would have to be replaced or continued, OutputFailed where another run is at it."""
    from unclouded.products.journal import Lock, disk_errors

    final, staging = out / str(day), out / f"{day}.staging"
    with disk_errors(out):
        if final.exists():
            raise UsageError(
                f"There is a product of {day} already.", where=final,
                do="use --overwrite to replace it, or choose another --out.",
            )  # fmt: skip
        if (staging / "job.json").exists() and (staging / "journal.jsonl").exists():
            with Lock(out / f"{day}.lock"):
                raise UsageError(
                    f"An unfinished run of {day} is here.", where=staging,
                    do="use --resume to continue it, or --overwrite to start anew.",
                )  # fmt: skip
