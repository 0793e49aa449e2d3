"""Which region belongs to which split: rows of a csv with a pinned digest, matched exactly.

The loaders in circulation keep a patch when a split's region, written `ROIs1158_spring_s1/s1_1`, occurs inside its path; it
also occurs inside `ROIs1158_spring_s1/s1_106`, so they train on 6 of 10 test regions. `as_published_substring` reproduces that
and nothing else should use it.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from unclouded.datasets.lattice import key
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, LeakFound, UsageError

Split = Literal["train", "val", "test"]
Rule = Literal["exact", "as_published_substring"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

DIGESTS: dict[str, str] = {  # SHA-256 of splits/<data set>.csv
    "sen12mscr": "df5569d12f1375f0946fed139d947fa9fcf79f1d33c1bfebcbb78c04e936b258",
    "sen12mscrts": "8226aa2e75f50bc6eef5908af59a4008c7d2ee3871dac3e1abf7ffc1b146bcc5",
}
IRREPRODUCIBLE: dict[str, str] = {
    "meraner2020": "its 149/10/10 regions and 157,521 patches come from an earlier release, whose names do not map to ours",
}


class Roi(NamedTuple):
    """A region of interest: `group` as in ROIs1158 or ROIs1158_spring, and its number."""

    group: str
    number: int

    @property
    def ground(self) -> tuple[str, int]:
        """The same region in any data set of the family: 1158_spring/106 and 1158/106 are one ground."""
        return self.group[:8], self.number

    def __str__(self) -> str:
        return f"{self.group}/{self.number}"


def parse_roi(text: str) -> Roi:
    """'ROIs1158_spring/106' or 'ROIs1158/106' -> Roi. Raises UsageError."""
    group, _, number = text.strip().partition("/")
    if not group.startswith("ROIs") or not number.isdigit():
        raise UsageError(f"'{text}' is not a region.", do="write it as ROIs1158_spring/106 or ROIs1158/106.")
    return Roi(group, int(number))


@cache
def table(dataset: str) -> dict[Roi, Split]:
    """The official split of every region of a data set. Raises InputUnsupported, and InputCorrupt for an altered file."""
    if dataset in IRREPRODUCIBLE:
        raise InputUnsupported(f"The split of '{dataset}' cannot be reproduced.", why=IRREPRODUCIBLE[dataset] + ".")
    if dataset not in DIGESTS:
        raise InputUnsupported(f"There is no split table for '{dataset}'.", do=f"choose one of {', '.join(DIGESTS)}.")
    text = files("unclouded.datasets").joinpath("splits", f"{dataset}.csv").read_bytes()
    if hashlib.sha256(text).hexdigest() != DIGESTS[dataset]:
        raise InputCorrupt(f"The split table of '{dataset}' has been changed.", do="reinstall unclouded.")
    return read_table(text.decode().splitlines(), where=dataset)


def read_table(lines: Iterable[str], *, where: str) -> dict[Roi, Split]:
    """Rows `roi,split,source` -> the split of every region.

    Raises InputCorrupt for unknown splits or a row given twice, LeakFound for regions in two splits.
    """
    rows: dict[Roi, Split] = {}
    torn: list[str] = []
    for row in csv.DictReader(lines):
        split = next((s for s in SPLITS if s == row.get("split")), None)
        roi = parse_roi(row.get("roi") or "")
        if split is None or rows.get(roi) == split:
            why = "it is there twice." if split else f"its split is {row.get('split')!r}; expected train, val or test."
            raise InputCorrupt(f"The split table has a bad row: {roi}.", where=where, why=why, do="correct the csv.")
        if roi in rows:
            torn.append(f"{roi} is in {rows[roi]} and {split}")
        rows[roi] = split
    if torn:
        raise LeakFound(
            "Some regions are in two splits.", where=where, why="; ".join(torn) + ".", do="give every region to one split."
        )
    return rows


def read_table_file(path: Path) -> dict[Roi, Split]:
    """The same from a file. Raises InputMissing and InputCorrupt besides, where it is not there or no text."""
    if not path.is_file():
        raise InputMissing("There is no split table here.", where=path, do="give a csv with the columns roi,split,source.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputCorrupt(
            "The split table cannot be read as text (UTF-8).", where=path, why=str(error), do="save it as UTF-8."
        ) from error
    return read_table(lines, where=str(path))


def table_of(root: Path, dataset: str) -> dict[Roi, Split]:
    """What governs a data root: its own `splits.csv`, where there is one, else the official table (none for SEN1-2)."""
    own = root / "splits.csv"
    if own.is_file():
        return read_table_file(own)
    return {} if dataset == "sen12" else table(dataset)


def regions(dataset: str, split: Split, rule: Rule = "exact") -> frozenset[Roi]:
    """The regions that a split loads: exactly its own, or also those that the substring rule lets in."""
    return selected(table(dataset), split, rule)


def selected(rows: Mapping[Roi, Split], split: Split, rule: Rule = "exact") -> frozenset[Roi]:
    """The same for any table."""
    own = frozenset(roi for roi, name in rows.items() if name == split)
    if rule == "exact":
        return own
    return frozenset(roi for roi in rows if any(_inside(mine, roi) for mine in own))


def _inside(mine: Roi, path: Roi) -> bool:
    """Whether the loaders' string of one region occurs inside the path of another."""
    return mine.group == path.group and str(path.number).startswith(str(mine.number))


def binned_draw(
    covers: Mapping[str, float], *, per_bin: int = 800, edges: Sequence[float] = (0, 0.2, 0.4, 0.6, 0.8, 1), seed: int = 0
) -> tuple[list[str], str]:
    """GLF-CR's protocol: `per_bin` names out of every bin of cover, and the SHA-256 of the list.

    The published list is lost, so this draw is ours: names are ranked by a hash of seed and name, whatever their order.
    A name on an inner edge belongs to the upper bin. Raises InputMissing where a bin is too small.
    """
    chosen: list[str] = []
    for low, high in pairwise(edges):
        last = high == edges[-1]
        inside = [name for name, cover in covers.items() if low <= cover < high or (last and cover == high)]
        if len(inside) < per_bin:
            raise InputMissing(
                f"Only {len(inside)} patches have a cover of {low:.0%} to {high:.0%}; {per_bin} are wanted.",
                do="give more patches or draw fewer per bin.",
            )  # fmt: skip
        chosen += sorted(sorted(inside, key=lambda name: (key(seed, "draw", name), name))[:per_bin])
    return chosen, hashlib.sha256("\n".join(chosen).encode()).hexdigest()
