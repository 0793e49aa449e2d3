"""THE FLOW: scenes in, a product out. Read this first.

open_scene   a pixel grid, dates, and a way to read windows             scenes/
detect       what is hidden on every date                               masks/
survey       what learns reads its sample of the place, once for all    models/
adapt        networks ignore it; solvers learn the place                models/
measure      hide clear patches of this very date: the product's error  models/probe.py
rebuild      block by block, a guess for every hidden pixel             tiling/, models/
fill         keep what was seen, bit for bit                            products/
publish      check, rename: the product is whole or not there           products/
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import band_name
from unclouded.budget import BLOCK, Budget, afford
from unclouded.errors import InputMissing, UsageError
from unclouded.models import DEFAULT, weights_file
from unclouded.ready import check_work, limits_of, loaded
from unclouded.sample import HIDING, NO_AGE, Cover, Source, Window, as_day
from unclouded.workers import in_processes

if TYPE_CHECKING:
    from unclouded.models.needs import CloudRemover
    from unclouded.models.probe import Probe
    from unclouded.products.assembly import Finished, Packing
    from unclouded.products.fill import Block, Guess, Limits
    from unclouded.products.product import Product
    from unclouded.scenes.scene import Layer, Scene

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]  # (blocks, how many, what for) -> the same blocks

MASKS_IN_MEMORY = 512 * 2**20  # bytes of class maps kept in memory; more go to a scratch file


def silent(blocks: Iterable[Any], total: int, what: str) -> Iterable[Any]:  # noqa: ARG001
    """No progress bar."""
    return blocks


def remove_clouds(
    s2: Paths,
    out: str | PathLike[str],
    *,
    s1: Paths | None = None,
    date: Any = None,
    all_dates: bool = False,
    model: str = DEFAULT,
    settings: Mapping[str, Any] | None = None,
    weights: str | PathLike[str] | None = None,
    scene_model: str | PathLike[str] | None = None,
    fast: bool = False,
    device: str = "auto",
    mask: str | PathLike[str] = "auto",
    screen: bool = True,
    grow: float = 20.0,
    max_age: int | None = None,
    max_sigma: float | None = None,
    fill_nodata: bool = False,
    resolution: int | None = None,
    aoi: str | PathLike[str] | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    datetime: str | None = None,
    bands: Sequence[str] | None = None,
    level: Literal["L1C", "L2A"] | None = None,
    offset: str | float = "auto",
    s1_unit: Literal["auto", "db", "linear"] = "auto",
    s1_calibration: Literal["sigma0", "gamma0"] = "sigma0",
    max_s1_gap: int = 6,
    verify: bool = True,
    place: str | None = None,
    seed: int = 0,
    workers: int | None = 1,
    memory: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> Product | list[Product]:
    """Write a cloud-free product for one date (or all dates) of one place, and say per pixel where it comes from.

    `s2`: a series folder, a manifest, files, or .SAFE products; `s1` likewise (a series folder may carry its own).
    `date`: the date to restore, YYYY-MM-DD; may be left out if the series has one date only.
    `model`: a name of unclouded.models.MODELS, with `settings` and, for networks, `weights`; or the folder of a training run.
    `scene_model`: what the default model learned in an earlier run, which then fits nothing and gives the same pixels: the file
    of a product, or a folder of products (for all dates). Refused if it belongs to another place, date, masks or settings.
    `fast`: single-image networks compute with channels last, and in bfloat16 where the processor has it: faster, but not the
    same bits on every machine and for every cut into blocks.
    `device`: 'cpu', 'cuda' or 'cuda:N' (networks only, in one process), or 'auto': networks take a card if there is one.
    `mask`: 'auto', the name of a detector (unclouded.masks.MASKS), or a file that is final for the restored date.
    `grow`: metres by which detected clouds are widened; `screen`: look for missed clouds by comparing the dates.
    `max_age` (days), `max_sigma` (reflectance): guesses beyond are refused and left without data. `fill_nodata`: rebuild
    where the date measured nothing, too. `resolution`: 10 writes one COG on the 10 m grid instead of one per native size.
    `workers`: processes (None: as many as cores, if there is work for them; the pixels are the same); `memory`: bytes that all
    of them together may take; it sets the block side.
    Writes `out/<date>/` and returns it as a Product (a list of them for all dates). Observed pixels keep their counts
    bit for bit. Raises UncloudedError in words; nothing half-written is ever visible.
    """
    from unclouded.models.running import computing_on
    from unclouded.models.scene_store import kept_for
    from unclouded.raster import reading_along
    from unclouded.scenes.open import open_scene
    from unclouded.scenes.scratch import unpacked

    limits, remover = limits_of(max_age, max_sigma, fill_nodata), loaded(model, settings, weights, device=device, fast=fast)
    given = given_masks(mask, date, all_dates)
    scene = open_scene(
        s2, s1, bands=bands, aoi=aoi, bbox=bbox, level=level, offset=offset, s1_unit=s1_unit,
        s1_calibration=s1_calibration, max_s1_gap=max_s1_gap, datetime=datetime, verify=verify, place_id=place,
        given=given, on=None if all_dates else date,
    )  # fmt: skip
    dates = chosen_dates(scene, date, all_dates)
    check_work(
        remover, scene, dates, Path(out), limits=limits, resolution=resolution, overwrite=overwrite, resume=resume,
        scene_model=None if scene_model is None else Path(scene_model),
    )  # fmt: skip
    budget = afford(scene, remover.needs, memory=memory, workers=workers)
    with tempfile.TemporaryDirectory(prefix="unclouded-") as scratch, reading_along():
        asked = str(mask) if given is None else "auto"
        scene = unpacked(scene, Path(scratch), workers=budget.workers)
        near = remover.needs.masks == "near"
        scene = hide(scene, scratch, mask=asked, targets=dates, screen=screen, grow=grow, budget=budget, lazily=near)
        options = job_options(
            model=model, settings=settings, weights=weights, fast=fast, mask=mask, screen=screen, grow=grow, max_age=max_age,
            max_sigma=max_sigma, fill_nodata=fill_nodata, resolution=resolution, aoi=aoi, bbox=bbox, datetime=datetime,
            bands=bands, level=level, offset=offset, s1_unit=s1_unit, s1_calibration=s1_calibration, max_s1_gap=max_s1_gap,
            seed=seed,
        ) | {"device": computing_on(remover)}  # fmt: skip
        if scene_model is None and any(hides(scene, day, limits) for day in dates):
            remover = surveyed(remover, scene, Path(scratch), workers=budget.workers)
        products = [
            restore(scene, day, remover, Path(out), limits=limits, resolution=resolution, options=options, seed=seed,
                    scene_model=None if scene_model is None else kept_for(Path(scene_model), day),
                    overwrite=overwrite, resume=resume, block=budget.block, workers=budget.workers, progress=progress)
            for day in dates
        ]  # fmt: skip
    return products if all_dates else products[0]


def job_options(**given: Any) -> dict[str, Any]:
    """What decides the pixels, of the options of `remove_clouds`, each in one spelling, so that two jobs can be compared.

    The device is not among them: its name is known where the model is. Raises UncloudedError for an area that cannot be read.
    """
    from unclouded.scenes.area import area_note

    names = (
        "model", "screen", "grow", "max_age", "max_sigma", "fill_nodata", "resolution", "seed", "fast",
        "level", "offset", "s1_unit", "s1_calibration", "max_s1_gap", "datetime",
    )  # fmt: skip
    bands, trained = given["bands"], weights_file(given["model"], given["weights"])
    return {name: given[name] for name in names} | {
        "settings": dict(given["settings"] or {}),
        "weights": fingerprints([str(trained)] if trained else []),
        "mask": str(given["mask"]),
        "bands": None if bands is None else [band_name(band) for band in bands],
        "area": area_note(given["aoi"], given["bbox"]),
    }


def restore(
    scene: Scene,
    date: np.datetime64,
    model: CloudRemover,
    out: Path,
    *,
    limits: Limits,
    resolution: int | None,
    options: Mapping[str, Any],
    scene_model: Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    block: int = BLOCK,
    workers: int = 1,
    progress: Progress = silent,
) -> Product:
    """One date of a scene whose masks are known -> its product under `out`.

    The blocks are shared among `workers` processes; a remover on a device has them all.
    """
    from threadpoolctl import threadpool_limits

    from unclouded.models.probe import NO_PROBE
    from unclouded.models.scene_store import NAME, packed
    from unclouded.products.product import ProductWriter, file_sha256

    model.needs.check(scene)
    outline = scene.decisions.get("grid", {}).get("outline")
    job = {**options, "inputs": fingerprints(scene.decisions.get("files", [])), **({"aoi": outline} if outline else {})}
    if scene_model is not None:
        job["scene_model"] = file_sha256(scene_model) if scene_model.is_file() else None
    writer = ProductWriter(out, scene, date, job=job, resume=resume, overwrite=overwrite, block=block, resolution=resolution)
    with writer, threadpool_limits(1):  #                     one thread each: the same bits anywhere
        if writer.finished:
            return writer.publish()
        remover, probe, learned = model, NO_PROBE, None
        computing = 1 if model.needs.one_process else workers
        if hides(scene, date, limits):
            remover, probe = study(model, scene, date, seed, computing, scene_model)
            learned = packed(remover, probe, scene, date)
            scene.let_go()
        todo = writer.todo()
        work = partial(finish, scene, date, remover, probe, limits, writer.packing)
        for done in progress(in_processes(work, todo, computing), len(todo), str(date)):
            writer.keep(done)
        return writer.publish(
            probe=probe.summary(), sigma_source=probe.sigma_source, workers=workers, extras={NAME: learned} if learned else {}
        )


def hides(scene: Scene, date: np.datetime64, limits: Limits) -> bool:
    """Whether there is anything to rebuild."""
    assert scene.masks is not None
    i = scene.index(date)
    return any(_wanted(np.asarray(scene.masks[(i, *block.slices)]), limits).any() for block in scene.blocks(BLOCK))


def _wanted(classes: NDArray[np.uint8], limits: Limits) -> NDArray[np.bool_]:
    return HIDING[classes] | ((classes == Cover.NODATA) if limits.nodata else False)


def study(
    model: CloudRemover, scene: Scene, date: np.datetime64, seed: int, workers: int, scene_model: Path | None = None
) -> tuple[CloudRemover, Probe]:
    """The remover, adapted to the place, and what it errs on this very date where clear patches of it are hidden.

    With a scene model of an earlier run nothing is fitted; the error is what was measured then.
    """
    from unclouded.models.probe import measure
    from unclouded.models.scene_store import adapted

    if scene_model is not None:
        return adapted(model, scene_model, scene, date)

    tasks: list[tuple[str, Callable[[], Any]]] = [
        ("adapt", partial(model.adapt, scene, date)), ("measure", partial(measure, model, scene, date, seed=seed)),
    ]  # fmt: skip
    done = dict(in_processes(_labelled, tasks, workers))
    return done["adapt"], done["measure"]


def _labelled(task: tuple[str, Callable[[], Any]]) -> tuple[str, Any]:
    return task[0], task[1]()


def finish(
    scene: Scene, date: np.datetime64, remover: CloudRemover, probe: Probe, limits: Limits, packing: Packing, block: Window
) -> Finished:
    """One block, rebuilt and packed for the journal; in any process."""
    done = packing(rebuild(scene, date, block, remover, probe, limits, packing.layers))
    scene.let_go()
    return done


def rebuild(
    scene: Scene,
    date: np.datetime64,
    block: Window,
    remover: CloudRemover,
    probe: Probe,
    limits: Limits,
    layers: tuple[Layer, ...],
) -> Block:
    """One finished block: observed pixels as they are, hidden ones from the remover."""
    from unclouded.products.fill import fill

    assert scene.masks is not None
    classes = np.asarray(scene.masks[(scene.index(date), *block.slices)])
    wanted = _wanted(classes, limits)
    guess = guess_block(scene, date, block, wanted, remover) if wanted.any() else None
    if guess is not None and guess.sigma is None and probe.constant is not None:
        guess = guess.with_sigma(np.asarray(probe.constant))
    return fill(scene, date, block, classes, guess, layers=layers, limits=limits)


def guess_block(scene: Scene, date: np.datetime64, block: Window, wanted: NDArray[np.bool_], remover: CloudRemover) -> Guess:
    """The remover's guess for a block (H, W), computed only where there are wanted pixels."""
    from unclouded.models.running import predictions
    from unclouded.products.fill import Guess
    from unclouded.tiling.grid import cut
    from unclouded.tiling.groups import groups

    needs = remover.needs
    if needs.tile is None:
        parts = [(needs.outer(part, scene), part) for part in groups(wanted, block, lambda part: needs.outer(part, scene))]
    else:
        parts = [(tile, tile) for tile in cut(scene.shape, needs.tile, needs.halo, block) if _touches(wanted, tile, block)]
    found = map(Guess.of, predictions(remover, scene, date, [seen for seen, _ in parts]))
    guesses = [(kept, guess.crop(kept.inside(seen))) for guess, (seen, kept) in zip(found, parts, strict=True)]
    return _laid(guesses, block) if needs.tile is None else _together(guesses, block, scene.shape, needs.halo)


def _laid(guesses: list[tuple[Window, Guess]], block: Window) -> Guess:
    """Rectangles that agree where they overlap, into one block (H, W); NaN and 0 where there is none."""
    from unclouded.products.fill import Guess

    first, shape = guesses[0][1], (block.height, block.width)
    s2 = np.full((len(first.s2), *shape), np.nan, np.float32)
    sigma = None if first.sigma is None else s2.copy()
    source, age = np.zeros(shape, np.uint8), np.zeros(shape, np.int16)
    for part, guess in guesses:
        at = part.inside(block).slices
        s2[(slice(None), *at)] = guess.s2
        if sigma is not None:
            sigma[(slice(None), *at)] = guess.sigma
        source[at] = Source.DATES if guess.source is None else guess.source
        age[at] = NO_AGE if guess.age is None else guess.age
    return Guess(s2=s2, sigma=sigma, source=source, age=age)


def _together(guesses: list[tuple[Window, Guess]], block: Window, shape: tuple[int, int], halo: int) -> Guess:
    """Tiles into one block: reflectance and sigma are weighted means, source and age come from the heaviest tile."""
    from unclouded.products.fill import Guess
    from unclouded.tiling.blend import Blender

    first = guesses[0][1]
    bands = len(first.s2)
    blender = Blender(block, shape, halo, bands if first.sigma is None else 2 * bands, codes=2)
    for tile, guess in guesses:
        values = guess.s2 if guess.sigma is None else np.concatenate([guess.s2, guess.sigma])
        source = np.full(guess.s2.shape[1:], Source.DATES) if guess.source is None else guess.source
        age = np.full(guess.s2.shape[1:], NO_AGE) if guess.age is None else guess.age
        blender.add(tile, values, np.stack([source, age]))
    means, codes = blender.result()
    return Guess(
        s2=means[:bands], sigma=None if first.sigma is None else means[bands:], source=codes[0].astype(np.uint8),
        age=codes[1].astype(np.int16),
    )  # fmt: skip


def hide(
    scene: Scene,
    scratch: str,
    *,
    mask: str,
    targets: Sequence[np.datetime64],
    screen: bool,
    grow: float,
    budget: Budget,
    lazily: bool = False,
) -> Scene:
    """The scene with a class map of every date; large maps, and those that processes share, lie in a scratch file.

    `lazily`: other dates than the `targets` get theirs where it is looked at, if that is less work.
    """
    from unclouded.masks.detect import detect

    in_memory = budget.maps <= MASKS_IN_MEMORY and budget.workers == 1
    out = None if in_memory else Path(scratch) / "masks.u8"
    hidden = detect(scene, mask=mask, targets=targets, screen=screen, grow=grow, out=out, workers=budget.workers, lazily=lazily)
    return hidden if in_memory else copy(hidden)


def surveyed(remover: CloudRemover, scene: Scene, scratch: Path, *, workers: int) -> CloudRemover:
    """The remover with its sample of the place read, for all dates and for the probe; as it is where it has no such step."""
    look: Callable[..., CloudRemover] | None = getattr(remover, "surveyed", None)
    return remover if look is None else look(scene, scratch, workers=workers)


def fingerprints(files: Sequence[str]) -> list[list[Any]]:
    """Per input file its name below their common folder, bytes and time of change: other inputs make another job."""
    real = [
        Path(str(file).removeprefix("/vsizip/").split(".zip/")[0] + (".zip" if ".zip/" in str(file) else "")) for file in files
    ]
    root = Path(os.path.commonpath([path.resolve().parent for path in real])) if real else Path()
    known = {path.resolve().relative_to(root).as_posix(): path.stat() for path in real if path.exists()}
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in sorted(known.items())]


def given_masks(mask: str | PathLike[str], date: Any, all_dates: bool) -> Path | dict[str, Path] | None:
    """The mask file for the date to restore, or for all, as `open_scene` takes it; None where a detector is named."""
    if _names_detector(mask):
        return None
    return Path(mask) if all_dates or date is None else {str(as_day(date)): Path(mask)}


def _names_detector(mask: str | PathLike[str]) -> bool:
    from unclouded.masks import MASKS

    if str(mask) == "auto" or str(mask) in MASKS:
        return True
    if Path(mask).exists():
        return False
    raise InputMissing(
        f"--mask {mask} is neither a detector nor a file.", do=f"use auto, {', '.join(MASKS)}, or the path of a raster."
    )


def chosen_dates(scene: Scene, date: Any, all_dates: bool) -> list[np.datetime64]:
    """The dates to restore. Raises UsageError if that is not clear, InputMissing if the date is not in the series."""
    if all_dates and date is not None:
        raise UsageError("--date and --all-dates exclude each other.")
    if all_dates:
        return list(scene.dates)
    if date is None:
        if len(scene.dates) == 1:
            return [scene.dates[0]]
        raise UsageError(
            "Which date shall be restored?", why=f"the series has {len(scene.dates)}: {', '.join(map(str, scene.dates))}.",
            do="give --date YYYY-MM-DD or --all-dates.",
        )  # fmt: skip
    return [scene.dates[scene.index(as_day(date))]]


def _touches(wanted: NDArray[np.bool_], tile: Window, block: Window) -> bool:
    top, left = max(tile.row - block.row, 0), max(tile.col - block.col, 0)
    bottom, right = tile.row + tile.height - block.row, tile.col + tile.width - block.col
    return bool(wanted[top : max(bottom, 0), left : max(right, 0)].any())
