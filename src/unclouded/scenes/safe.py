"""A .SAFE product as a set of named files, in a folder or in its .zip (read in place): listing, XML, paths, digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, RefusedForSafety
from unclouded.raster import damaged, open_zip, zip_path

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # noqa: TID251 - the type only; parsing is defusedxml's

MAX_XML = 32 * 2**20
_ALGORITHMS = {"MD5": "md5", "SHA3-256": "sha3_256", "SHA-256": "sha256", "SHA256": "sha256"}
_checked: dict[tuple[object, ...], str] = {}  # digests of files of this process that did not change since


@dataclass(frozen=True)
class Safe:
    """A product: `path` of the folder or zip, `root` the .SAFE folder's name inside a zip ('' for a folder), its files."""

    path: Path
    root: str
    files: tuple[str, ...]  # relative to the product, with /

    @property
    def name(self) -> str:
        """The product's name with .SAFE."""
        return self.root or self.path.absolute().name

    def raster(self, file: str) -> str:
        """The path for the gateway."""
        return zip_path(self.path, f"{self.root}/{file}") if self.root else str(self.path / file)

    def xml(self, file: str) -> Element:
        """A parsed XML file without DTD, entities or namespaces. Raises InputMissing, InputCorrupt, RefusedForSafety."""
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import ParseError, fromstring

        if file not in self.files:
            raise InputMissing(f"{self.name} has no {file}.", where=self.path, do="download the product again.")
        with self.open(file) as stream:
            text = stream.read(MAX_XML + 1)
        if len(text) > MAX_XML:
            raise RefusedForSafety(f"{file} is larger than {MAX_XML >> 20} MiB.", where=self.path)
        try:
            root = fromstring(text, forbid_dtd=True)
        except DefusedXmlException as error:
            raise RefusedForSafety(f"{file} declares entities.", where=self.path, why=str(error)) from error
        except (ParseError, ValueError) as error:
            raise InputCorrupt(
                f"{file} of {self.name} cannot be read. Nothing was written.", where=self.path, why=str(error),
                do="download the product again.",
            ) from error  # fmt: skip
        for element in root.iter():
            element.tag = element.tag.rsplit("}", 1)[-1]
        return root

    def open(self, file: str) -> IO[bytes]:
        """A file's bytes, streamed."""
        try:
            if not self.root:
                return (self.path / file).open("rb")
            return open_zip(self.path).open(f"{self.root}/{file}")
        except OSError as error:
            raise damaged(self.path / file, error) from error

    def digest(self, file: str, algorithm: str) -> str:
        """Hex digest of a file; remembered while the file does not change. Raises InputCorrupt where it cannot be read."""
        import zipfile

        state = os.stat(self.path / file if not self.root else self.path)
        key = (str(self.path), file, algorithm, state.st_ino, state.st_size, state.st_mtime_ns)
        if key not in _checked:
            sha = hashlib.new(_ALGORITHMS[algorithm])
            try:
                with self.open(file) as stream:
                    while piece := stream.read(1 << 20):
                        sha.update(piece)
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise damaged(file, error) from error
            _checked[key] = sha.hexdigest()
        return _checked[key]


def open_safe(path: Path) -> Safe:
    """List a .SAFE folder or zip. Raises InputMissing, InputCorrupt, InputUnsupported, RefusedForSafety."""
    if path.is_dir():
        files = tuple(
            sorted(
                p.relative_to(path).as_posix()
                for p in path.rglob("*")
                if p.is_file() and p.resolve().is_relative_to(path.resolve())
            )
        )
        return Safe(path, "", files)
    with open_zip(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/")]
    roots = sorted({n.split("/")[0] for n in names if n.split("/")[0].upper().endswith(".SAFE")})
    if len(roots) != 1:
        raise InputUnsupported(
            f"{path.name} does not hold one .SAFE product.", where=path, why=f"found {roots or 'none'}.",
            do="give zip files of single products, as they are downloaded.",
        )  # fmt: skip
    return Safe(path, roots[0], tuple(sorted(n.partition("/")[2] for n in names if n.startswith(roots[0] + "/"))))


def verify(safe: Safe, files: Iterable[str], names: dict[str, str]) -> list[str]:
    """Check files against manifest.safe. `names`: what to call them. Returns those without a known digest.

    Raises InputCorrupt naming every file that differs, and how many are intact; InputMissing without a manifest.
    """
    stated = _stated(safe)
    wanted = list(files)
    unknown = [f for f in wanted if stated.get(f, ("", ""))[0] not in _ALGORITHMS]
    wrong = [f for f in wanted if f not in unknown and safe.digest(f, stated[f][0]).lower() != stated[f][1].lower()]
    if wrong:
        bad = ", ".join(names.get(f, PurePosixPath(f).name) for f in wrong)
        raise InputCorrupt(
            f"{bad}: {stated[wrong[0]][0]} differs from manifest.safe. Nothing was written.", where=f"{safe.path}: {wrong[0]}",
            why=f"the file is damaged or was changed; {len(wanted) - len(wrong) - len(unknown)} other files are intact.",
            do="download the product again; --no-verify reads it as it is and records so.",
        )  # fmt: skip
    return unknown


def _stated(safe: Safe) -> dict[str, tuple[str, str]]:
    """File -> (algorithm, digest) as manifest.safe says."""
    found = {}
    for item in safe.xml("manifest.safe").iter("dataObject"):
        place, digest = item.find(".//fileLocation"), item.find(".//checksum")
        if place is not None and digest is not None and digest.text:
            file = place.get("href", "").removeprefix("./")
            found[file] = (digest.get("checksumName", "").upper(), digest.text.strip())
    return found
