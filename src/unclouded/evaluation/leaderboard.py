"""The leaderboard page from result files: our own runs under one protocol, with the published numbers beside and marked.

Runs stand in one table only if benchmark, preset digest, patch list, protocol, detectors, split and drawn inputs agree; each
table says which.
`python -m unclouded.evaluation.leaderboard RESULTS.json ... --out docs/leaderboard.md`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unclouded.errors import InputCorrupt, InputMissing, OutputFailed, UncloudedError
from unclouded.evaluation.benchmarks import BENCHMARKS
from unclouded.evaluation.described import STATED, in_words
from unclouded.evaluation.presets import preset

COLUMNS = ("PSNR hidden", "SAM hidden", "MAE hidden", "PSNR", "SSIM", "SAM", "MAE")
HEAD = """# Leaderboard

Made by `python -m unclouded.evaluation.leaderboard` from result files of `unclouded evaluate`; edit those, not this page.
Every table has one protocol, one list of patches, one split and way to draw inputs, one detector of what is hidden, and our
own runs only. What "hidden" and the other columns mean, and why published numbers stand apart, is told in
[Benchmarks](benchmarks.md).
"""


class Entry(NamedTuple):
    """One model of one result file."""

    model: str
    rows: Mapping[str, Any]
    refused: float
    seconds: float


def read(path: Path) -> dict[str, Any]:
    """A results.json. Raises InputMissing, InputCorrupt."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputMissing(
            "There is no result file here.", where=path, why=error.strerror or "", do="give the results.json of an evaluation."
        ) from error
    except UnicodeDecodeError as error:
        raise InputCorrupt("This is no result file of an evaluation.", where=path, why=str(error)) from error
    try:
        told: dict[str, Any] = json.loads(text)
        for key in ("benchmark", "preset", "preset_digest", "patch_list_sha256", "models", "regions", "images"):
            told[key]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputCorrupt("This is no result file of an evaluation.", where=path, why=str(error)) from error
    return told


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """The whole page as Markdown."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for told in results:
        groups.setdefault(_key(told), []).append(told)
    tables = [_table(members) for _, members in sorted(groups.items())]
    return "\n".join([HEAD, *tables, _published()])


def _key(told: Mapping[str, Any]) -> tuple[str, ...]:
    """What must agree in one table. Where the data lie, and when their files were written, does not count."""
    data = told.get("data") or {}
    return (
        told["benchmark"]["name"], told["preset_digest"], told["patch_list_sha256"], _areas(told), _protocol(told),
        *(json.dumps(data.get(name)) for name in STATED if name != "root"),
    )  # fmt: skip


def _areas(told: Mapping[str, Any]) -> str:
    """The detectors that said what is hidden."""
    names = {"given": "the samples' own clouds"}
    return " and ".join(names.get(n, n) for n in sorted(told.get("masks") or {})) or "a detector that was not named"


def _protocol(told: Mapping[str, Any]) -> str:
    view = told.get("protocol")
    return "" if view is None else f"protocol {view['name']}, clouds from {view['clouds_from']}; "


def _table(members: Sequence[Mapping[str, Any]]) -> str:
    first = members[0]
    found = [
        Entry(name, m["rows"], m["refused"], m["seconds_per_image"])
        for told in members for name, m in told["models"].items() if m["images"]
    ]  # fmt: skip
    columns = [c for c in COLUMNS if any(c in e.rows for e in found)]
    higher = preset(first["preset"]).row(columns[0]).better == "higher" if columns else True
    found.sort(key=lambda e: _rank(e, columns, higher))
    regions = first["regions"]
    return "\n".join([
        f"## {first['benchmark']['name']}: {_where(first)}", "",
        f"{first['images']} images, {len(regions)} region{'' if len(regions) == 1 else 's'}; preset {first['preset']} "
        f"`{first['preset_digest']}`; patch list `{first['patch_list_sha256'][:16]}`.",
        f"Data: {in_words(first.get('data') or {})}; {_protocol(first)}areas from {_areas(first)}. {_caution(first)}", "",
        f"| model | {' | '.join(columns)} | left open | processor s per image |",
        f"|---|{'---|' * (len(columns) + 2)}",
        *(f"| {e.model} | {' | '.join(_cell(e.rows.get(c)) for c in columns)} | {100 * e.refused:.2g} % | {e.seconds:.2g} |"
          for e in found), "",
    ])  # fmt: skip


def _where(told: Mapping[str, Any]) -> str:
    """The data set that the benchmark asks for, where it is the one that was scored; else the first regions."""
    data, asked = told.get("data") or {}, told["benchmark"].get("asks_for") or {}
    if data.get("kind") is not None and data["kind"] == asked.get("dataset"):
        return str(data["kind"])
    names = told["regions"]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _rank(entry: Entry, columns: Sequence[str], higher: bool) -> float:
    value = entry.rows[columns[0]]["value"] if columns else None
    if not isinstance(value, (int, float)):
        return float("inf")
    return -value if higher else value


def _caution(told: Mapping[str, Any]) -> str:
    regions = len(told["regions"])
    if regions >= 6:
        return "In brackets: 95 % bootstrap intervals over regions."
    return f"**A small sample**: {regions} region{'' if regions == 1 else 's'} cannot rank methods."


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or not isinstance(row["value"], (int, float)):
        return "–"
    digits = 2 if row["unit"] else 4
    said = f"{row['value']:.{digits}f}"
    if isinstance(row["low"], (int, float)):
        said += f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
    return said


def _published() -> str:
    """The field's numbers, each with what is known of its split. Never in one table with ours."""
    record = BENCHMARKS["sen12mscr"]
    lines = [
        "## Published on SEN12MS-CR", "",
        "As printed, each by its own conventions and on its own list of patches: not comparable with the tables above, and",
        "only partly with each other.", "",
        "| method | PSNR | SSIM | SAM | MAE | what is known of the split |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in record.published() or ():
        cells = " | ".join(f"{row.numbers[c]:g}" if c in row.numbers else "–" for c in ("PSNR", "SSIM", "SAM", "MAE"))
        lines.append(f"| {row.method} | {cells} | {record.marks.get(row.method, record.marks['any'])} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page. Returns the exit code."""
    parser = argparse.ArgumentParser(description="the leaderboard page from result files")
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, default=Path("docs/leaderboard.md"))
    asked = parser.parse_args(arguments)
    try:
        write(asked.out, page([read(path) for path in asked.results]))
    except UncloudedError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    return 0


def write(path: Path, text: str) -> None:
    """Raises OutputFailed."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputFailed("The page cannot be written.", where=path, why=error.strerror or "") from error


if __name__ == "__main__":
    sys.exit(main())
