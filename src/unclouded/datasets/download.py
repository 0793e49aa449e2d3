"""Fetch SEN12MS-CR and SEN12MS-CR-TS from where their authors put them, archive by archive, and go on after an interruption.

The addresses are those of the authors' own script (mediaTUM). Nothing is trusted: an archive is written to a `.part` file and
renamed when complete, it must be a sound tar.gz, and only plain files below a ROIs... folder leave it.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from unclouded.errors import InputCorrupt, OutputFailed, RefusedForSafety, TryAgain, UsageError

HOST = "https://dataserv.ub.tum.de/s"
SEASONS = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
CONTINENTS = ("africa", "america", "asiaEast", "asiaWest", "europa")
CHUNK = 1 << 20
Progress = Callable[[str, int, int], None]  # archive, bytes done, bytes in all (0: unknown)


class Archive(NamedTuple):
    """One file to download."""

    dataset: str
    name: str
    url: str


def _archive(dataset: str, share: str, name: str) -> Archive:
    return Archive(dataset, f"{name}.tar.gz", f"{HOST}/{share}/download?path=/&files={name}.tar.gz")


ARCHIVES: tuple[Archive, ...] = (
    *(_archive("sen12mscr", "m1554803", f"{s}_{k}") for k in ("s2", "s2_cloudy", "s1") for s in SEASONS),
    *(_archive("sen12mscrts", "m1639953", f"{k}_{c}") for k in ("s2", "s1") for c in CONTINENTS),
    *(_archive("sen12mscrts", "m1659251", f"{k}_{c}_test") for k in ("s2", "s1") for c in CONTINENTS),
)


def archives(dataset: str, *, parts: Iterable[str] = ()) -> list[Archive]:
    """The archives of a data set; with `parts` only those whose name contains one of these words. Raises UsageError."""
    words = tuple(parts)
    chosen = [a for a in ARCHIVES if a.dataset == dataset and (not words or any(w in a.name for w in words))]
    if not chosen:
        names = sorted({a.dataset for a in ARCHIVES})
        raise UsageError(
            f"Nothing of '{dataset}' goes by {' or '.join(words) or 'that name'}.",
            do=f"data sets: {', '.join(names)}; parts are words of archive names, such as s1, spring, europa, _test.",
        )  # fmt: skip
    return chosen


def commands(chosen: Iterable[Archive], folder: Path) -> list[str]:
    """Shell commands that do the same by hand: `wget -c` resumes."""
    lines = []
    for a in chosen:
        target = folder / a.name
        lines += [f"wget -c -O '{target}' '{a.url}'", f"tar -xzf '{target}' -C '{folder}'"]
    return lines


def download(archive: Archive, folder: Path, *, progress: Progress | None = None) -> Path:
    """Fetch one archive into a folder, from where an earlier try stopped; nothing to do where it is already there.

    Raises TryAgain where the connection fails (running it again continues), OutputFailed where the folder cannot be written.
    """
    if urlsplit(archive.url).scheme not in ("https", "http"):
        raise RefusedForSafety(f"'{archive.url}' is no web address.")
    whole, part = folder / archive.name, folder / f"{archive.name}.part"
    if whole.is_file():
        return whole
    try:
        folder.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = answer.status == 206
            total = int(answer.headers.get("Content-Length") or 0) + (have if resumed else 0)
            with part.open("ab" if resumed else "wb") as file:
                _copy(answer, file, archive.name, have if resumed else 0, total, progress)
        if total and part.stat().st_size != total:
            raise TryAgain(f"{archive.name} stopped at {part.stat().st_size} of {total} bytes.", do="run the command again.")
        part.replace(whole)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is the whole
            part.replace(whole)
            return whole
        raise TryAgain(f"{archive.name} cannot be fetched now.", where=archive.url, why=f"HTTP {error.code}.") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise TryAgain(
            f"{archive.name} was interrupted.", where=archive.url, why=str(error), do="run the command again."
        ) from error
    except OSError as error:
        raise OutputFailed(f"{archive.name} cannot be written.", where=folder, why=str(error)) from error
    return whole


def _copy(answer: IO[bytes], file: IO[bytes], name: str, done: int, total: int, progress: Progress | None) -> None:
    while chunk := answer.read(CHUNK):
        file.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(name, done, total)


def unpack(path: Path, root: Path) -> int:
    """Extract the patches of an archive below `root`, from their ROIs... folder on; how many files. What is there is kept.

    The archive is read twice, first to the end of its checksum, so that nothing of a damaged one is ever extracted.
    Raises InputCorrupt for a damaged archive, RefusedForSafety for a member that points elsewhere, OutputFailed.
    """
    try:
        with gzip.open(path) as stream:
            while stream.read(CHUNK):
                pass
        tar = tarfile.open(path, "r:gz")  # noqa: SIM115 - closed below, apart from errors of opening
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise InputCorrupt(
            f"{path.name} is damaged: it cannot be unpacked.", where=path, why=str(error),
            do="remove it and download it again.",
        ) from error  # fmt: skip
    count = 0
    with tar:
        for member, target in _patches(tar, root):
            try:
                if not (target.is_file() and target.stat().st_size == member.size):
                    _extract(tar, member, target)
            except OSError as error:
                raise OutputFailed(f"{path.name} cannot be unpacked.", where=root, why=str(error)) from error
            count += 1
    return count


def _patches(tar: tarfile.TarFile, root: Path) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    for member in tar:
        parts = PurePosixPath(member.name).parts
        if member.isdir():
            continue
        start = next((n for n, part in enumerate(parts) if part.startswith("ROIs")), None)
        if not member.isfile() or ".." in parts or member.name.startswith("/") or "\\" in member.name:
            raise RefusedForSafety(
                f"The archive was refused: '{member.name[:80]}' is no plain file inside it.", where=tar.name or ""
            )
        if start is not None and start < len(parts) - 1:
            yield member, root.joinpath(*parts[start:])


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with source, part.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
    part.replace(target)
