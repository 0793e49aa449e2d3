"""One cached index per data root, so that a hundred thousand files are listed once and never again.

The cache is a file of JSON lines, one per folder, only ever appended to: a build that was killed goes on where it stopped, and
a folder that changed since (by its modification time) is listed anew when the index is next opened. Covers stand beside the
sizes and times of the files they were measured on, and are measured anew where these differ. It lives in the user's cache
folder, because data roots are often read-only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputMissing
from unclouded.sample import HIDDEN_FROM, Sample

Progress = Callable[[int, int], None]  # done, of


class Measure(NamedTuple):
    """A named way to see clouds: `cloud(sample)` gives (T, H, W) in [0, 1]. The name goes into caches and reports."""

    name: str
    cloud: Callable[[Sample], NDArray[np.float32]]


class File(NamedTuple):
    """A file of the index: its path relative to the root, and its size in bytes."""

    path: str
    size: int


def stamps(root: Path, paths: Iterable[str]) -> list[list[int]]:
    """Size in bytes and time of change in nanoseconds of files below a root; -1 for a file that is not there."""
    found = []
    for path in paths:
        try:
            told = os.stat(root / path)
        except OSError:
            found.append([-1, -1])
            continue
        found.append([told.st_size, told.st_mtime_ns])
    return found


def cache_folder() -> Path:
    """Where caches live: UNCLOUDED_CACHE, else XDG_CACHE_HOME/unclouded, else ~/.cache/unclouded."""
    if "UNCLOUDED_CACHE" in os.environ:
        return Path(os.environ["UNCLOUDED_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "unclouded"


@dataclass(frozen=True)
class Index:
    """The files of a data root by folder."""

    root: Path
    folders: dict[str, tuple[File, ...]]
    lines: Lines

    def files(self, suffix: str) -> Iterator[File]:
        """All files whose name ends so, folder by folder in natural order."""
        for name in sorted(self.folders, key=natural):
            yield from (f for f in self.folders[name] if f.path.endswith(suffix))

    def cover(self, name: str, measure: Measure, sample: Callable[[], Sample], images: Iterable[str]) -> list[float]:
        """The hidden share of every date of an item, measured once and remembered as long as its `images` stay as they are."""
        return self.lines.cover(name, measure, sample, stamps(self.root, images))


def open_index(root: Path, depth: int, *, cache: Path | None = None, progress: Progress | None = None) -> Index:
    """List the folders `depth` levels below a root, or take the cache's word for those that have not changed.

    Raises InputMissing where the root is no folder.
    """
    if not root.is_dir():
        raise InputMissing("There is no data set here.", where=root, do="give the folder that holds the ROIs... folders.")
    lines = Lines.read(_place(root, str(depth), cache))
    leaves = list(_leaves(root, depth))
    folders: dict[str, tuple[File, ...]] = {}
    for n, (name, changed) in enumerate(leaves):
        known = lines.folders.get(name)
        if known is None or known[0] != changed:
            known = (changed, _listed(root, name))
            lines.add({"folder": name, "changed": changed, "files": [[f.path, f.size] for f in known[1]]})
        folders[name] = known[1]
        if progress is not None:
            progress(n + 1, len(leaves))
    return Index(root, folders, lines)


def pack_lines(folder: Path) -> Lines:
    """What is remembered of a pack: the covers of its samples."""
    return Lines.read(_place(folder, "pack", None))


def _place(root: Path, kind: str, cache: Path | None) -> Path:
    """The cache file of a folder."""
    digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:20]
    return (cache or cache_folder()) / "index" / f"{digest}.{kind}.jsonl"


def natural(text: str) -> list[Any]:
    """A key that sorts p9 before p10."""
    parts, digits = [], ""
    for letter in text:
        if letter.isdigit():
            digits += letter
        else:
            parts += [(1, int(digits), "")] if digits else []
            parts.append((0, 0, letter))
            digits = ""
    return parts + ([(1, int(digits), "")] if digits else [])


def _leaves(root: Path, depth: int) -> Iterator[tuple[str, int]]:
    """Folders `depth` levels down, below those named ROIs..., relative to the root, with their time of change."""
    level = [e for e in os.scandir(root) if e.is_dir() and e.name.startswith("ROIs")]
    for _ in range(depth - 1):
        level = [e for folder in level for e in os.scandir(folder) if e.is_dir()]
    for entry in level:
        yield Path(entry.path).relative_to(root).as_posix(), entry.stat().st_mtime_ns


def _listed(root: Path, name: str) -> tuple[File, ...]:
    entries = [e for e in os.scandir(root / name) if e.is_file()]
    return tuple(File(f"{name}/{e.name}", e.stat().st_size) for e in sorted(entries, key=lambda e: natural(e.name)))


class Lines:
    """The cache file: what it said, and a way to append to it. A folder that cannot be written to costs only time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: dict[str, tuple[int, tuple[File, ...]]] = {}
        self.covers: dict[tuple[str, str], tuple[Any, list[float]]] = {}  # what was measured, hidden shares
        self._torn = False

    @staticmethod
    def read(path: Path) -> Lines:
        """Read what is there; lines that are cut short or make no sense are passed over."""
        lines = Lines(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return lines
        lines._torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                lines._take(json.loads(line))
            except (KeyError, TypeError, ValueError):
                continue
        return lines

    def _take(self, line: Any) -> None:
        if "folder" in line:
            self.folders[str(line["folder"])] = (int(line["changed"]), tuple(File(str(p), int(s)) for p, s in line["files"]))
        else:
            self.covers[str(line["measure"]), str(line["item"])] = line["of"], [float(c) for c in line["cover"]]

    def cover(self, name: str, measure: Measure, sample: Callable[[], Sample], of: Any) -> list[float]:
        """The hidden share of every date of an item, measured unless it is known of just `of`: JSON that tells its content."""
        known = self.covers.get((measure.name, name))
        if known is not None and known[0] == of:
            return known[1]
        one = sample()
        cloud = measure.cloud(one)
        found = [float(np.mean(c[v] >= HIDDEN_FROM)) if v.any() else 1.0 for c, v in zip(cloud, one.s2_valid, strict=True)]
        self.add({"measure": measure.name, "item": name, "of": of, "cover": found})
        return found

    def add(self, line: dict[str, Any]) -> None:
        """Remember a line, on disk too where that is possible. One short write, so that several processes may append."""
        self._take(line)
        text = ("\n" if self._torn else "") + json.dumps(line, separators=(",", ":")) + "\n"
        self._torn = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            return
