"""A product from its first block to its publication: staged beside its place, checked, and put there whole by one rename.

OUT/<date>.lock      held while a run writes this date
OUT/<date>.staging/  job.json, journal.jsonl, blocks/, and product/ while it is assembled; what a killed run leaves
OUT/<date>/          the product; it has a manifest.json or it is not a product
OUT/manifest.json    the dates that are there
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import unclouded
from unclouded.errors import InputCorrupt, InputMissing, OutputFailed, RecordError, UsageError
from unclouded.products.assembly import Assembly, Finished, Packing
from unclouded.products.cog import LEVEL, Plane
from unclouded.products.fill import SIGMA_UNIT, SIGMA_UNKNOWN, Block, layers_of
from unclouded.products.journal import (
    Journal,
    Lock,
    check_job,
    disk_errors,
    exchange,
    is_job,
    job_digest,
    sync,
    sync_folder,
    write_file,
)
from unclouded.products.legend import COVER_COLOURS, COVER_NAMES, SOURCE_COLOURS, SOURCE_NAMES
from unclouded.products.preview import Look, quicklook, step_for
from unclouded.products.report import Report, render
from unclouded.products.stac import stac_item
from unclouded.sample import NO_AGE, Cover, Source, Window, as_day
from unclouded.scenes.scene import Layer, Scene
from unclouded.text import file_name
from unclouded.workers import in_processes

BLOCK = 768  # pixels a side: a multiple of 6, so that 10, 20 and 60 m pixels end together
SPACE = 1.3  # free space asked for, over the estimate
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Product:
    """A finished product on disk: its files by name (`clear` or `clear_10m` ..., `source`, ...), STAC item and manifest."""

    folder: Path
    id: str
    date: date
    files: dict[str, Path]
    item: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def clear(self) -> tuple[Path, ...]:
        """The cloud-free images: one, or one per native resolution."""
        return tuple(path for name, path in self.files.items() if name.startswith("clear"))


def product_id(place: str, day: np.datetime64) -> str:
    """ID = <place>_<YYYYMMDD>, with the place spelled in letters that any file system takes."""
    return f"{file_name(place) or 'place'}_{str(as_day(day)).replace('-', '')}"


def planes_of(scene: Scene, layers: Sequence[Layer]) -> tuple[Plane, ...]:
    """The rasters of a product, in the order of `Block.arrays`."""
    clear = [
        Plane(
            name="clear" + (f"_{layer.name}" if layer.name else ""), shape=layer.shape, grid=layer.grid, dtype=layer.dtype,
            nodata=layer.nodata, descriptions=layer.descriptions or layer.bands, factor=layer.factor,
            scales=layer.scale_tags, offsets=layer.offset_tags, tags=layer.tags, level=LEVEL,
        )
        for layer in layers
    ]  # fmt: skip
    own: dict[str, Any] = {"shape": scene.shape, "grid": scene.place.grid}
    sources = tuple((int(code), SOURCE_NAMES[code], SOURCE_COLOURS[code]) for code in Source)
    covers = tuple((int(code), COVER_NAMES[code], COVER_COLOURS[code]) for code in Cover)
    return (
        *clear,
        Plane(name="source", dtype="uint8", nodata=0, descriptions=("source",), classes=sources, overviews="nearest", **own),
        Plane(name="mask", dtype="uint8", nodata=0, descriptions=("mask",), classes=covers, overviews="nearest", **own),
        Plane(
            name="sigma", dtype="uint16", nodata=SIGMA_UNKNOWN, descriptions=scene.place.bands,
            scales=(1 / SIGMA_UNIT,) * len(scene.place.bands), offsets=(0.0,) * len(scene.place.bands), **own,
        ),
        Plane(name="age", dtype="int16", nodata=NO_AGE, descriptions=("days",), overviews="nearest", **own),
    )  # fmt: skip


class ProductWriter:
    """Writes one date. Use as a context manager: `todo`, `write` in any order, then `publish`.

    Leaving without publishing keeps the finished blocks for `resume`; if there are none, nothing stays.
    `job` is the JSON of what decides the pixels (inputs, options); a run is continued only with an equal job.

    Raises UsageError (a product or an unfinished run is there; another job), OutputFailed (disk full, read-only, in use).
    """

    def __init__(
        self,
        out_dir: Path | str,
        scene: Scene,
        date: np.datetime64,
        *,
        job: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
        block: int = BLOCK,
        resolution: float | None = None,
    ) -> None:
        self.out, self.scene, self.date = Path(out_dir), scene, as_day(date)
        self.id = product_id(scene.place.id, self.date)
        self.layers = layers_of(scene, self.date, resolution)
        self.planes = planes_of(scene, self.layers)
        common = math.lcm(*(layer.factor for layer in scene.source.layers(scene.index(self.date))))
        if block < 1 or block % common:
            raise RecordError(f"The block side must be a multiple of {common}, so that coarse pixels stay whole; got {block}.")
        self.blocks = tuple(scene.blocks(block))
        self.job = plain({**job, "written_as": _how_written(self.id, self.date, block, scene, self.layers)})
        self._resume, self._overwrite, self._step = resume, overwrite, step_for(scene.shape, block)
        self.final = self.out / str(self.date)
        self.staging = self.out / f"{self.date}.staging"
        self._old = self.out / f"{self.date}.replaced"
        self._stack = ExitStack()
        self._journal: Journal | None = None
        self.damaged: list[Window] = []  # blocks of an earlier run that did not match their checksums and are done again
        self.finished = False  # resumed after a kill that came when the product was published already

    def __enter__(self) -> ProductWriter:
        with disk_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(Lock(self.out / f"{self.date}.lock"))
            try:
                self._open()
            except BaseException:
                self._stack.close()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._journal is not None and not self._journal.entries:
                shutil.rmtree(self.staging, ignore_errors=True)
        finally:
            self._journal = None
            self._stack.close()

    def _open(self) -> None:
        """Put right what a killed swap left, decide between starting and continuing, and open the journal."""
        if self._old.exists() and not (self.final / MANIFEST).exists():
            os.rename(self._old, self.final)
        shutil.rmtree(self._old, ignore_errors=True)
        done = self._resume and _job_of(self.final) == job_digest(self.job)
        if done and not (self._overwrite and _damaged(self.final)):
            self.finished = True
            shutil.rmtree(self.staging, ignore_errors=True)
            return
        refuse_to_lose(self.final, self.scene)
        if self.final.exists() and not self._overwrite:
            raise UsageError(
                f"There is a product of {self.date} already.", where=self.final,
                do="use --overwrite to replace it, or choose another --out.",
            )  # fmt: skip
        job = self.staging / "job.json"
        if self.staging.exists() and not (self._resume and self._may_go_on(job)):
            self._refuse_to_forget(job)
            shutil.rmtree(self.staging)
        if self.staging.exists():
            check_job(job, self.job)
        else:
            self._preflight()
            self.staging.mkdir()
            write_file(job, json.dumps(self.job, indent=1, sort_keys=True).encode())
        self._journal = Journal(self.staging)
        self.damaged = self._journal.forget_damaged()

    def _may_go_on(self, job: Path) -> bool:
        """Whether there is a run to continue; one of another job stands in the way, unless it may be overwritten."""
        return job.exists() and (not self._overwrite or is_job(job, self.job))

    def _refuse_to_forget(self, job: Path) -> None:
        if job.exists() and not self._overwrite and (journal := self.staging / "journal.jsonl").exists():
            done = journal.read_bytes().count(b"\n")
            raise UsageError(
                f"An unfinished run of {self.date} is here.", where=self.staging,
                why=f"{done} of {len(self.blocks)} blocks are done.",
                do="use --resume to continue it, or --overwrite to start anew.",
            )  # fmt: skip

    def _preflight(self) -> None:
        """Room for the blocks, the largest plane unpacked with its overviews, and the finished files, which are compressed."""
        sizes = [plane.bytes(self.scene.window) for plane in self.planes]
        needed, free = int(SPACE * (sum(sizes) * 1.75 + max(sizes) * 4 / 3)), shutil.disk_usage(self.out).free
        if free < needed:
            raise OutputFailed(
                "The disk has too little room for the product.", where=self.out,
                why=f"about {needed / 1e9:.2f} GB are needed while it is made, {free / 1e9:.2f} GB are free.",
                do="free some space or choose another --out.",
            )  # fmt: skip

    @property
    def journal(self) -> Journal:
        """The journal of the run. Raises RecordError outside `with`."""
        if self._journal is None:
            raise RecordError("The writer is not open, or the product is finished.", do="use it in a with statement.")
        return self._journal

    def todo(self) -> list[Window]:
        """The blocks that are not done yet, row by row."""
        return [] if self.finished else [window for window in self.blocks if window not in self.journal.entries]

    def write(self, block: Block) -> None:
        """Keep a finished block: once this returns, neither a kill nor a power cut loses it. Any order; twice is harmless."""
        self.keep(self.packing(block))

    @property
    def packing(self) -> Packing:
        """What turns a block into what `keep` takes; another process can do it."""
        return Packing(planes=self.planes, layers=self.layers, bands=self.scene.place.bands, step=self._step)

    def keep(self, block: Finished) -> None:
        """The same as `write` for a block that is packed already."""
        if block.window not in self.blocks:
            raise RecordError(f"{tuple(block.window)} is not a block of this product.")
        with disk_errors(self.staging):
            self.journal.keep(*block)

    def publish(
        self,
        *,
        probe: Mapping[str, Any] | None = None,
        sigma_source: str | None = None,
        notes: Mapping[str, Any] | None = None,
        extras: Mapping[str, bytes] | None = None,
        workers: int = 1,
    ) -> Product:
        """Assemble, check and publish. The manifest tells the job, what the scene's readers decided, and what is given here:

        the probe's error, where sigma comes from ("model", "probe", "none"), and any further `notes` as JSON. `extras`: further
        files, bytes by name; each becomes ID_name. `workers`: how many processes write rasters at a time.
        Raises OutputFailed (nothing published), VerificationFailed (a file did not read back), TryAgain (a damaged block).
        """
        with disk_errors(self.staging):
            if not self.finished:
                if left := self.todo():
                    raise RecordError(f"{len(left)} of {len(self.blocks)} blocks are not written yet, first {tuple(left[0])}.")
                given = {"probe": probe, "sigma_source": sigma_source, **(notes or {})}
                self._assemble(self.staging / "product", plain(given), extras or {}, workers)
                self._swap(self.staging / "product")
                self._journal = None
                self.finished = True
            write_catalogue(self.out)
            shutil.rmtree(self._old, ignore_errors=True)
            shutil.rmtree(self.staging, ignore_errors=True)
        return load_product(self.final)

    def _assemble(self, folder: Path, given: dict[str, Any], extras: Mapping[str, bytes], workers: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        assembly = Assembly(folder, self.id, self.planes, self.blocks, self.journal, workers)
        digests = dict(in_processes(assembly, assembly.by_size(), workers))
        rasters = {plane.name: digests[plane.name] for plane in self.planes}
        look = self._look()
        pixels = {name: sum(e.pixels[name] for e in self.journal.entries.values()) for name in (s.name.lower() for s in Source)}
        facts = {
            **given,
            "id": self.id, "date": str(self.date), "unclouded": unclouded.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "decisions": plain(self.scene.decisions), "job": self.job, "job_sha256": job_digest(self.job),
            "rasters": rasters, "digest": job_digest(rasters), "pixels": pixels,
        }  # fmt: skip
        quicklook(folder / f"{self.id}_quicklook.png", look, title=f"{self.scene.place.id}  {self.date}")
        report = Report(place=self.scene.place, date=str(self.date), look=look, facts=facts)
        for name, data in extras.items():
            (folder / f"{self.id}_{name}").write_bytes(data)
        (folder / f"{self.id}.html").write_text(render(report), encoding="utf-8")
        facts["files"] = _listed(folder.iterdir())
        item = folder / f"{self.id}.json"
        item.write_text(to_json(stac_item(self.id, self.scene, self.date, self.layers, self.planes, facts)), encoding="utf-8")
        facts["files"] |= _listed([item])
        for path in folder.iterdir():
            _sync_file(path)
        write_file(folder / MANIFEST, to_json(facts).encode())

    def _look(self) -> Look:
        """The small pictures and mean spectra of the whole scene, from those of its blocks."""
        look = Look.empty(self.scene.shape, self.scene.place.bands, self._step)
        for window in self.blocks:
            look.add(
                window,
                [
                    self.journal.read(window, len(self.planes) + k, dtype, shape)
                    for k, (dtype, shape) in enumerate(look.parts(window))
                ],
            )
        return look

    def _swap(self, folder: Path) -> None:
        """The commit: one rename. A product that was there stays until that moment and then lies in the staging folder."""
        if not self.final.exists():
            os.rename(folder, self.final)
        elif not exchange(folder, self.final):
            os.rename(self.final, self._old)  # a kill right here is put right by the next run
            os.rename(folder, self.final)
        sync_folder(self.out)


def refuse_to_lose(final: Path, scene: Scene) -> None:
    """Whatever the options say, nothing is replaced but a product, and none that is read for the new one. Raises UsageError."""
    if not final.exists():
        return
    if _job_of(final) is None and (not final.is_dir() or any(final.iterdir())):
        raise UsageError(
            "What is here is no product, and is not replaced.", where=final, why=f"it holds no {MANIFEST}.",
            do="choose another --out.",
        )  # fmt: skip
    here = final.resolve()
    if read := [path for path in scene.decisions.get("files", []) if here in Path(path).resolve().parents]:
        raise UsageError("The product would replace what it is made from.", where=read[0], do="choose another --out.")


def _how_written(id: str, day: np.datetime64, block: int, scene: Scene, layers: Sequence[Layer]) -> dict[str, Any]:
    grid = scene.place.grid
    return {
        "code": unclouded.__version__, "id": id, "date": str(day), "block": block,
        "shape": scene.shape, "bands": scene.place.bands,
        "crs": str(grid.crs) if grid is not None else None, "transform": list(grid.affine)[:6] if grid is not None else None,
        "inputs": scene.decisions, "dates": scene.dates,
        "layers": [{k: v for k, v in asdict(layer).items() if k != "grid"} for layer in layers],
    }  # fmt: skip


def _job_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / MANIFEST).read_text())["job_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _damaged(folder: Path) -> bool:
    try:
        load_product(folder)
    except (InputMissing, InputCorrupt):
        return True
    return False


def plain(value: Any) -> Any:
    """JSON of a value that may hold NumPy numbers, dates and paths; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def to_json(value: Any) -> str:
    """Indented strict JSON."""
    return json.dumps(plain(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of files by name, as the manifest lists them."""
    return {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(paths)}


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def write_catalogue(out: Path) -> None:
    """OUT/manifest.json: the products that are there, from their own manifests. Safe beside runs of other dates."""
    with Lock(out / ".manifest.lock", wait=True):
        found = [load_product(folder) for folder in sorted(out.glob("????-??-??")) if (folder / MANIFEST).exists()]
        listed = [{"date": str(p.date), "id": p.id, "folder": p.folder.name, "digest": p.manifest["digest"]} for p in found]
        write_file(out / MANIFEST, to_json({"unclouded": unclouded.__version__, "products": listed}).encode())


def load_product(folder: Path | str, *, verify: bool = False) -> Product:
    """A finished product. `verify` also reads every file against the manifest's SHA-256.

    Raises InputMissing for a folder without a manifest (unfinished or foreign), InputCorrupt where files do not match it.
    """
    home = Path(folder)
    try:
        manifest = json.loads((home / MANIFEST).read_text(encoding="utf-8"))
        files, id, day = manifest["files"], manifest["id"], date.fromisoformat(manifest["date"])
        item = json.loads((home / f"{id}.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputMissing(
            "This is not a finished product.", where=home, why=f"{Path(error.filename).name} is not there.",
            do="finish the run with --resume, or name the folder of a date.",
        ) from error  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputCorrupt(
            "The manifest cannot be read.", where=home / MANIFEST, why=repr(error), do="make the product again."
        ) from error
    for name, fact in files.items():
        path = home / Path(name).name
        size = path.stat().st_size if path.is_file() else -1
        if size != fact["bytes"] or (verify and file_sha256(path) != fact["sha256"]):
            raise InputCorrupt(
                f"{name} is not the file that was published.", where=path,
                why=f"its {'size' if size != fact['bytes'] else 'SHA-256'} differs from the manifest.",
                do="make the product again.",
            )  # fmt: skip
    paths = {_role(name, id): home / name for name in files}
    return Product(folder=home, id=id, date=day, files=paths, item=item, manifest=manifest)


def _role(name: str, id: str) -> str:
    """ID_clear_10m.tif -> clear_10m, ID_quicklook.png -> quicklook, ID.html -> report, ID.json -> item."""
    stem, _, kind = name.removeprefix(id).rpartition(".")
    return stem.removeprefix("_") or {"html": "report", "json": "item"}[kind]
