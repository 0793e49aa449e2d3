"""A crash-safe store of finished blocks: data first, then one journal line that vouches for them, each forced to disk.

A run killed at any moment leaves whole lines and at most one torn one, which is ignored. A block is done when its line is there
and its bytes match the line's checksums; whatever else lies in the folder is rubbish to be written over.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import platform
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import OutputFailed, RecordError, TryAgain, UsageError
from unclouded.sample import Window

FULL = {errno.ENOSPC, errno.EDQUOT}
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Piece(NamedTuple):
    """Where one array of a block lies in the block's file: its bytes, or one value that stands for all `size` of them."""

    start: int
    length: int
    size: int
    crcs: tuple[int, ...]  # CRC-32 of the `length` bytes, one per band of (C, h, w), each started with `size`


class Entry(NamedTuple):
    """One finished block: its arrays in the order they were given, and its numbers."""

    window: Window
    pieces: tuple[Piece, ...]
    pixels: dict[str, int]


class Packed(NamedTuple):
    """The arrays of one block as they lie in its file."""

    pieces: tuple[Piece, ...]
    data: tuple[bytes, ...]


def pack(arrays: tuple[NDArray[Any], ...]) -> Packed:
    """The bytes of each array, one value only where it holds but one, with their place and checksum.

    They are not compressed: they are read once and deleted, and deflating them took longer than writing the product.
    """
    stored = [array.flat[:1] if _constant(array) else array for array in arrays]
    data = tuple(array.tobytes() for array in stored)
    starts = np.cumsum([0, *map(len, data)]).tolist()
    pieces = (
        Piece(at, len(d), array.nbytes, tuple(_crc(band, array.nbytes) for band in (kept if kept.ndim == 3 else [kept])))
        for at, d, array, kept in zip(starts, data, arrays, stored, strict=False)
    )
    return Packed(tuple(pieces), data)


def _constant(array: NDArray[Any]) -> bool:
    """Whether all values are one and the same, bit for bit (0.0 and -0.0 are not)."""
    if array.size and not any(array.strides):
        return True
    if array.size == 0 or array.flat[0] != array.flat[-1] or array.flat[0] != array.flat[array.size // 2]:
        return False
    bits = array.view(f"u{array.itemsize}") if array.dtype.kind == "f" else array
    return bool((bits == bits.flat[0]).all())


def _whole(data: bytes, piece: Piece) -> bytes:
    """All bytes of an array. Raises BlockDamaged where they are not those of its checksum."""
    crcs = piece.crcs
    side, rest = divmod(len(data), max(1, len(crcs)))
    bands = [memoryview(data)[n * side :][:side] for n in range(len(crcs))]
    if rest or not crcs or len(data) != piece.length or tuple(zlib.crc32(band, piece.size) for band in bands) != crcs:
        raise BlockDamaged("the checksum differs")
    return data if piece.length in (0, piece.size) else data * (piece.size // piece.length)


class Check:
    """Whether rows (C, h, w) that come one after the other are those of a piece, without holding all of them."""

    def __init__(self, piece: Piece) -> None:
        self._piece, self._crcs, self._same = piece, (piece.size,) * len(piece.crcs), True

    def add(self, rows: NDArray[Any]) -> None:
        """The next rows."""
        if self._piece.length == self._piece.size:
            self._crcs = tuple(_crc(band, crc) for band, crc in zip(rows, self._crcs, strict=True))
        else:
            self._crcs = (_crc(rows.flat[:1], self._piece.size),)
            self._same &= _constant(rows) and self._crcs == self._piece.crcs

    @property
    def holds(self) -> bool:
        """Whether all of them were."""
        return self._same and self._crcs == self._piece.crcs


class BlockDamaged(Exception):
    """A block's bytes are not those its journal line vouches for. Stays inside this room."""


class Journal:
    """The blocks of one run in a folder. One process writes at a time (see `Lock`)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder / "blocks", folder / "journal.jsonl"
        self.folder.mkdir(exist_ok=True)
        self.entries = self._load()

    def add(self, window: Window, arrays: tuple[NDArray[Any], ...], pixels: Mapping[str, int]) -> None:
        """Keep a block for good: when this returns, a power cut does not lose it. Raises OSError."""
        self.keep(window, pack(arrays), pixels)

    def keep(self, window: Window, packed: Packed, pixels: Mapping[str, int]) -> None:
        """The same for arrays that are packed already."""
        with open(self._file(window), "wb") as file:
            file.writelines(packed.data)
            sync(file.fileno())
        sync_folder(self.folder)
        entry = Entry(window, packed.pieces, dict(pixels))
        with open(self._path, "ab") as file:
            file.write(json.dumps({"block": window, "pieces": entry.pieces, "pixels": entry.pixels}).encode() + b"\n")
            file.flush()
            sync(file.fileno())
        self.entries[window] = entry

    def read(self, window: Window, n: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Array `n` of a finished block. Raises BlockDamaged."""
        piece = self.entries[window].pieces[n]
        try:
            with open(self._file(window), "rb") as file:
                file.seek(piece.start)
                data = _whole(file.read(piece.length), piece)
        except (OSError, BlockDamaged) as error:
            raise BlockDamaged(f"{tuple(window)}: {error}") from error
        if len(data) != np.dtype(dtype).itemsize * int(np.prod(shape)):
            raise BlockDamaged(f"{tuple(window)}: the checksum differs")
        return np.frombuffer(data, dtype).reshape(shape)

    def constant(self, n: int) -> bool:
        """Whether array `n` holds one and the same value in all blocks. Raises OSError."""
        values = set()
        for window, entry in self.entries.items():
            piece = entry.pieces[n]
            if piece.length == piece.size:
                return False
            with open(self._file(window), "rb") as file:
                file.seek(piece.start)
                values.add(file.read(piece.length))
        return len(values) == 1

    def evenness(self, n: int) -> float:
        """The share of blocks whose array `n` holds one value."""
        pieces = [entry.pieces[n] for entry in self.entries.values()]
        return sum(piece.length < piece.size for piece in pieces) / max(1, len(pieces))

    def forget_damaged(self) -> list[Window]:
        """Read every finished block, drop those that are damaged, and tell which."""
        damaged = [window for window in self.entries if not self._sound(window)]
        for window in damaged:
            del self.entries[window]
        return damaged

    def _sound(self, window: Window) -> bool:
        try:
            data = self._file(window).read_bytes()
            return all(_whole(data[p.start : p.start + p.length], p) is not None for p in self.entries[window].pieces)
        except (OSError, BlockDamaged):
            return False

    def _file(self, window: Window) -> Path:
        return self.folder / f"{window.row:06d}_{window.col:06d}.blk"

    def _load(self) -> dict[Window, Entry]:
        """The entries on disk. A torn tail is cut off, so that the next line starts on its own; a mangled line is skipped."""
        if not self._path.exists():
            return {}
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self._path, whole)
        entries = (_entry(line) for line in data[:whole].splitlines())
        return {entry.window: entry for entry in entries if entry is not None}


def _entry(line: bytes) -> Entry | None:
    try:
        raw = json.loads(line)
        pieces = tuple(Piece(start, length, size, tuple(crcs)) for start, length, size, crcs in raw["pieces"])
        return Entry(Window(*raw["block"]), pieces, raw["pixels"])
    except (ValueError, KeyError, TypeError):
        return None


def _crc(array: NDArray[Any], start: int) -> int:
    """CRC-32 of an array's bytes in row order, going on from `start`."""
    return zlib.crc32(np.ascontiguousarray(array).data.cast("B") if array.size else b"", start)


def job_digest(job: Mapping[str, Any]) -> str:
    """SHA-256 of what decides the pixels: inputs, options, code version. Raises RecordError where it is not plain JSON."""
    try:
        return hashlib.sha256(json.dumps(job, sort_keys=True, allow_nan=False).encode()).hexdigest()
    except (TypeError, ValueError) as error:
        raise RecordError(f"The job is not plain JSON: {error}.") from error


def is_job(path: Path, job: Mapping[str, Any]) -> bool:
    """Whether a run was started with this job."""
    old = _read_job(path)
    return isinstance(old, dict) and job_digest(old) == job_digest(job)


def _read_job(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def check_job(path: Path, job: Mapping[str, Any]) -> None:
    """Refuse to continue a run that was started with another job. Raises UsageError naming what differs."""
    if is_job(path, job):
        return
    old = _read_job(path)
    differs = [key for key in sorted({*old, *job}) if old.get(key) != job.get(key)] if isinstance(old, dict) else []
    raise UsageError(
        "The unfinished run here was started with other inputs, options or code.",
        where=path.parent,
        why=f"different: {', '.join(differs) or 'its job.json cannot be read'}.",
        do="repeat the first command with --resume, or use --overwrite to start anew.",
    )


def sync(descriptor: int) -> None:
    """Force a file to disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk (POSIX; the name of a new file is not safe before)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Replace a file in one step: temporary neighbour, fsync, rename, fsync of the folder."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "wb") as file:
        file.write(data)
        file.flush()
        sync(file.fileno())
    os.replace(fresh, path)
    sync_folder(path.parent)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, so that a reader finds either; False where the system cannot (Linux renameat2 can)."""
    at_cwd, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), swap) == 0)


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Failures of the disk inside -> OutputFailed (exit code 20), in words."""
    try:
        yield
    except BlockDamaged as error:
        raise TryAgain(
            "A finished block was damaged on disk.", where=where, why=f"{error}.", do="run the same command with --resume."
        ) from error
    except OSError as error:
        full = error.errno in FULL
        raise OutputFailed(
            "The disk is full." if full else "The output cannot be written.",
            where=error.filename or where,
            why=f"{error.strerror or error}. Nothing was published; a product that was there before is untouched.",
            do=("free some space" if full else "make the folder writable") + " and run the same command with --resume.",
        ) from error


class Lock:
    """A lock file naming its owner (host, pid, boot id). The kernel frees it when its owner dies, however it dies.

    The owner's name is for people, and for file systems shared between hosts, where the kernel's lock may not reach: a lock of
    another host is respected even if it looks free. A lock of this host that nobody holds is stale and taken over.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self._path, self._wait, self._descriptor = path, wait, -1

    def __enter__(self) -> Lock:
        import fcntl

        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if self._wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(descriptor):
                    self._claim(descriptor)
                    self._descriptor = descriptor
                    return self
            except BlockingIOError:
                owner = _owner(descriptor)
                os.close(descriptor)
                raise self._in_use(owner) from None
            except OutputFailed:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)  # before the lock is freed: the next owner must find it gone, not take it over
            os.close(self._descriptor)
            self._descriptor = -1

    def _is_current(self, descriptor: int) -> bool:
        """False if the owner before us removed the file between our open and our lock."""
        try:
            return os.fstat(descriptor).st_ino == os.stat(self._path).st_ino
        except FileNotFoundError:
            return False

    def _claim(self, descriptor: int) -> None:
        owner = _owner(descriptor)
        if owner.get("host", platform.node()) != platform.node():
            raise self._in_use(owner)
        me = {"host": platform.node(), "pid": os.getpid(), "boot": BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""}
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(me).encode(), 0)

    def _in_use(self, owner: dict[str, Any]) -> OutputFailed:
        return OutputFailed(
            "Another run is writing this product.",
            where=self._path,
            why=f"held by process {owner.get('pid', '?')} on {owner.get('host', '?')}.",
            do="wait for it, or choose another --out; if that machine is gone for good, delete the lock file.",
        )


def _owner(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
