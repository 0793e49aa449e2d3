"""Packs: samples as memory-mapped arrays, read some twenty times faster than the TIFFs they come from.

A pack is a folder: `s2.npy` and `target.npy` uint16 counts (reflectance x 10000, exact), `s1.npy` int16 in 0.01 dB (off by at
most 0.005 dB), `valid.npy` one bit per pixel, and `pack.json` with names, dates, grids and the SHA-256 of every sample.
Packing appends to a journal, so that a pack that was interrupted goes on; it counts as whole once `pack.json` is there. The
journal begins with what is packed, and nothing else is ever packed into the same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.draws import SampleSource, Telling
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, OutputFailed
from unclouded.sample import Place, Sample, as_day, as_days

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FORMAT = 1
ARRAYS = {"s2": np.uint16, "target": np.uint16, "s1": np.int16, "valid": np.uint8}
STEPS = {"s2": np.float32(10_000), "target": np.float32(10_000), "s1": np.float32(100)}  # per 1.0, per dB
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Shape:
    """What all samples of a pack share."""

    bands: tuple[str, ...]
    level: str
    dates: int
    radar: int
    target: bool
    size: tuple[int, int]

    @staticmethod
    def of(sample: Sample) -> _Shape:
        radar = 0 if sample.s1 is None else len(sample.s1)
        return _Shape(sample.place.bands, sample.place.level, len(sample.s2), radar, sample.target is not None, sample.shape)

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """The shape of one sample in every array."""
        height, width = self.size
        shapes: dict[str, tuple[int, ...]] = {"s2": (self.dates, len(self.bands), height, width)}
        if self.target:
            shapes["target"] = (len(self.bands), height, width)
        if self.radar:
            shapes["s1"] = (self.radar, 2, height, width)
        return shapes | {"valid": (self.dates + self.radar + self.target, height, -(-width // 8))}


def pack(source: SampleSource, folder: Path, *, items: Sequence[int] | None = None, progress: Progress | None = None) -> Packed:
    """Write the samples `items` of a source (default all) as a pack, going on where an earlier run stopped.

    Raises InputUnsupported for samples that differ in shape, or values that counts cannot hold; OutputFailed where the
    folder holds another pack (other samples, dates, targets, bands, another root or way to draw) or cannot be written.
    """
    chosen = list(range(len(source)) if items is None else items)
    if not chosen:
        raise InputMissing("There is nothing to pack.", where=folder, do="choose another subset.")
    first = source[chosen[0]]
    shape, contents = _Shape.of(first), _contents(source, chosen, first)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = _journal(folder, chosen, shape, contents)
        arrays = _arrays(folder, len(chosen), shape, fresh=not done)
        with (folder / "journal.jsonl").open("a", encoding="utf-8") as journal:
            for n in range(len(done), len(chosen)):
                row = _store(arrays, n, source[chosen[n]], shape)
                for array in arrays.values():
                    array.flush()
                journal.write(json.dumps(row, separators=(",", ":")) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
                done.append(row)
                if progress is not None:
                    progress(n + 1, len(chosen))
        head = {
            "format": FORMAT, "source": contents["source"], "bands": shape.bands, "level": shape.level, "size": shape.size,
            "samples": done,
        }  # fmt: skip
        temporary = folder / "pack.json.part"
        temporary.write_text(json.dumps(head), encoding="utf-8")
        temporary.replace(folder / "pack.json")
    except OSError as error:
        raise OutputFailed("The pack could not be written.", where=folder, why=str(error)) from error
    return Packed(folder)


class Packed:
    """A pack as a source of samples. Raises InputMissing where there is none, InputCorrupt where it cannot be right."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "pack.json"
        if not path.is_file():
            raise InputMissing(
                "There is no whole pack here.", where=self.folder, why="pack.json is missing.",
                do="run `unclouded data pack` again: it goes on where it stopped.",
            )  # fmt: skip
        try:
            head = json.loads(path.read_text(encoding="utf-8"))
            self.bands, self.level, self.samples = tuple(head["bands"]), head["level"], list(head["samples"])
            self.arrays = {
                name: np.asarray(np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
                for name in ARRAYS if (self.folder / f"{name}.npy").is_file()
            }  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputCorrupt("The pack cannot be read.", where=self.folder, why=str(error), do="pack it again.") from error
        if head.get("format") != FORMAT or any(len(a) != len(self.samples) for a in self.arrays.values()):
            raise InputCorrupt("The pack's arrays and pack.json disagree.", where=self.folder, do="pack it again.")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Sample:
        """Sample i, as it was packed (radar to 0.005 dB)."""
        row, stored = self.samples[i], {name: array[i] for name, array in self.arrays.items()}
        real = _real(stored)
        dates, radar = len(row["s2_dates"]), len(row["s1_dates"])
        width = stored["s2"].shape[-1]
        valid = np.unpackbits(stored["valid"], axis=-1, count=width).view(bool)
        target_date = row["target_date"]
        return Sample(
            place=Place(id=row["id"], bands=self.bands, level=self.level, grid=_grid(row, stored["s2"].shape[-2:])),
            s2=real["s2"], s2_valid=valid[:dates], s2_dates=as_days(row["s2_dates"]),
            s1=real.get("s1"), s1_valid=valid[dates : dates + radar] if radar else None,
            s1_dates=as_days(row["s1_dates"]) if radar else None,
            target=real.get("target"), target_valid=valid[-1] if "target" in stored else None,
            target_date=None if target_date is None else as_day(target_date), target_index=row["target_index"],
        )  # fmt: skip

    def verify(self) -> list[str]:
        """The names of samples whose stored bytes are not those that were packed."""
        return [
            str(row["id"]) for n, row in enumerate(self.samples)
            if _digest({name: array[n] for name, array in self.arrays.items()}) != row["sha256"]
        ]  # fmt: skip


def _real(stored: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Stored numbers in physical units, in one piece of memory: the allocator hands it out again without new page faults."""
    names = [name for name in STEPS if name in stored]
    ends = np.cumsum([stored[name].size for name in names])
    memory = np.empty(int(ends[-1]), np.float32)
    parts = {
        name: memory[end - stored[name].size : end].reshape(stored[name].shape) for name, end in zip(names, ends, strict=True)
    }
    for name, part in parts.items():
        np.divide(stored[name], STEPS[name], out=part)
    return parts


def _grid(row: dict[str, Any], size: tuple[int, ...]) -> GeoBox | None:
    if row["crs"] is None:
        return None
    from affine import Affine
    from odc.geo.geobox import GeoBox

    return GeoBox((size[0], size[1]), Affine(*row["transform"]), row["crs"])


def _store(arrays: dict[str, np.memmap[Any, Any]], n: int, sample: Sample, shape: _Shape) -> dict[str, Any]:
    """Write one sample into the arrays and return its row."""
    if _Shape.of(sample) != shape:
        raise InputUnsupported(
            f"{sample.place.id} differs from the first sample in size, bands, or number of dates.", where=sample.place.id,
            why=f"{_Shape.of(sample)} against {shape}.", do="pack samples of one kind together.",
        )  # fmt: skip
    valid = [sample.s2_valid]
    arrays["s2"][n] = _counts(sample.s2, sample)
    if sample.s1 is not None and sample.s1_valid is not None:
        arrays["s1"][n] = np.rint(np.clip(np.where(np.isfinite(sample.s1), sample.s1, 0), -300, 300) * 100)
        valid.append(sample.s1_valid)
    if sample.target is not None:
        arrays["target"][n] = _counts(sample.target, sample)
        valid.append((np.ones(sample.shape, bool) if sample.target_valid is None else sample.target_valid)[None])
    arrays["valid"][n] = np.packbits(np.concatenate(valid), axis=-1)
    grid = sample.place.grid
    return {
        "id": sample.place.id,
        "s2_dates": [str(d) for d in sample.s2_dates],
        "s1_dates": [] if sample.s1_dates is None else [str(d) for d in sample.s1_dates],
        "target_date": None if sample.target_date is None else str(sample.target_date),
        "target_index": sample.target_index,
        "crs": None if grid is None else str(grid.crs),
        "transform": None if grid is None else list(grid.affine[:6]),
        "sha256": _digest({name: array[n] for name, array in arrays.items()}),
    }


def _counts(reflectance: NDArray[np.float32], sample: Sample) -> NDArray[np.uint16]:
    counts = np.rint(reflectance * np.float32(10_000))
    if not (counts.min() >= 0 and counts.max() <= 65_535):
        raise InputUnsupported(
            f"{sample.place.id} has reflectance from {reflectance.min():.3f} to {reflectance.max():.3f}.",
            where=sample.place.id, why="a pack holds 0 to 6.5535.",
        )  # fmt: skip
    return counts.astype(np.uint16)


def _digest(stored: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(stored):
        digest.update(np.ascontiguousarray(stored[name]).tobytes())
    return digest.hexdigest()


def _arrays(folder: Path, count: int, shape: _Shape, *, fresh: bool) -> dict[str, np.memmap[Any, Any]]:
    arrays = {}
    for name, one in shape.arrays().items():
        path, whole = folder / f"{name}.npy", (count, *one)
        if fresh or not path.is_file():
            array = np.lib.format.open_memmap(path, mode="w+", dtype=ARRAYS[name], shape=whole)
        else:
            array = np.lib.format.open_memmap(path, mode="r+")
        arrays[name] = cast("np.memmap[Any, Any]", array)
    return arrays


def _contents(source: SampleSource, chosen: Sequence[int], first: Sample) -> dict[str, Any]:
    """What is packed, without reading pixels: the source, and names, dates and targets of its samples as far as it tells them.

    A source that tells nothing is known by its fields, if it is a dataclass, and by its first sample.
    """
    if isinstance(source, Telling):
        return {"source": source.origin(), "told": [source.told(i) for i in chosen]}
    days = [str(day) for day in first.s2_dates]
    one = {"id": first.place.id, "dates": days, "target": None if first.target_date is None else str(first.target_date)}
    return {"source": repr(source) if is_dataclass(source) else type(source).__name__, "told": [one]}


def _journal(folder: Path, chosen: list[int], shape: _Shape, contents: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that are done. The first line says what is packed: another pack is never written over."""
    path = folder / "journal.jsonl"
    head = {
        "format": FORMAT,
        "items": chosen,
        "shape": [list(shape.bands), shape.level, shape.dates, shape.radar, shape.target, list(shape.size)],
        **contents,
    }
    wanted = json.dumps(head, separators=(",", ":"))
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    if not lines:
        path.write_text(wanted + "\n", encoding="utf-8")
        return []
    if lines[0] != wanted:
        raise OutputFailed(
            "This folder holds another pack.", where=folder, why=_other(lines[0], head),
            do="choose another folder, or remove this one.",
        )  # fmt: skip
    whole = lines[1:-1]  # what follows the last line end was cut short
    path.write_text("\n".join([wanted, *whole]) + "\n", encoding="utf-8")
    return [json.loads(line) for line in whole]


def _other(line: str, head: dict[str, Any]) -> str:
    """What the first line of a journal says otherwise than `head`, in words."""
    try:
        old = dict(json.loads(line))
    except (ValueError, TypeError):
        return "its journal cannot be read."
    if "told" not in old:
        return "it was begun by an earlier version, which did not note what is packed."
    if old.get("source") != head["source"]:
        return f"it was packed from {old.get('source')}, not from {head['source']}."
    return "its journal names other samples, dates, targets or bands."
