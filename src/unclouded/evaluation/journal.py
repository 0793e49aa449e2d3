"""The file of one model's lines (`<model>.jsonl`): what lets a run go on where it stopped, and refuses another run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unclouded.errors import UsageError
from unclouded.evaluation.results import Line


class Journal:
    """The lines of one model on disk: a header, then one line per image; a torn last line is forgotten."""

    def __init__(self, path: Path, header: dict[str, Any], fresh: bool) -> None:
        self.done: dict[int, Line] = {}
        if path.exists() and not fresh:
            self._read(path, header)
        self.failed: dict[int, Line] = {}
        text = "".join(line.text for line in self.done.values())
        write_whole(path, json.dumps(header, ensure_ascii=False) + "\n" + text)
        self.file = path.open("a", encoding="utf-8")

    def _read(self, path: Path, header: dict[str, Any]) -> None:
        first, *rest = path.read_text(encoding="utf-8").splitlines() or ["{}"]
        try:
            found = json.loads(first)
        except json.JSONDecodeError:
            found = {}
        differs = differences(found, header)
        if differs:
            raise UsageError(
                "This folder holds the results of another run.", where=path, why="; ".join(differs) + ".",
                do="give another folder, or start anew (--overwrite) to replace them.",
            )  # fmt: skip
        for text in rest:
            line = Line.read(text)
            if line is not None:
                self.done[line.index] = line

    def add(self, line: Line) -> None:
        """One more image; failures are kept in memory only, so that a second run tries them again.

        An image that has its line keeps it: it was only predicted again to be stored.
        """
        if line.failed:
            self.failed[line.index] = line
            return
        if line.index in self.done:
            return
        self.done[line.index] = line
        self.file.write(line.text)
        self.file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def lines(self) -> list[Line]:
        """All lines in the order of the data set."""
        return [line for _, line in sorted((self.done | self.failed).items())]


def differences(was: Mapping[str, Any], now: Mapping[str, Any], of: str = "") -> list[str]:
    """In which entries two headers differ, in words; entries of a mapping are told one by one, as `data: dates`."""
    told = []
    for key in now if not of else dict.fromkeys([*now, *was]):
        a, b = was.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            told += differences(a, b, f"{key}: ")
        elif a != b:
            told.append(f"{of}{key} was {a!r} and is {b!r}")
    return told


def filed(name: str) -> str:
    """A name that can be a file's: other characters than letters, digits, '-', '_', '.', '=' and spaces become '_'."""
    return "".join(c if c.isalnum() or c in "-_.= " else "_" for c in name)


def write_whole(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
