"""The README of every table's folder: its command and its expected rows, made from table.toml and the published numbers.

`python -m unclouded.reproduce.pages` writes them; a test holds them to their sources.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from unclouded.reproduce.stand_ins import command
from unclouded.reproduce.table import FOLDER, Row, Table, names, table_of
from unclouded.training.recipe import read_recipe

WANTED = {"sen12mscr": "SEN12MS-CR", "sen12mscrts": "SEN12MS-CR-TS"}
TAUGHT_ON = {"triplets": "SEN12MS-CR", "series": "SEN12MS-CR-TS", "clear": "ROOT"}  # by the kind of a recipe's data


def page(name: str, folder: Path = FOLDER) -> str:
    """The README of one table as Markdown."""
    table = table_of(name, folder)
    record = table.benchmark
    parts = [
        f"# {record.source}", "", f"{record.about[0].upper()}{record.about[1:]}.", "",
        "Made by `python -m unclouded.reproduce.pages` from `table.toml` and the published numbers; edit those.", "",
        *_commands(name, table), *(_layers(table) if table.layers else _rows(table)), *_notes(table),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def _commands(name: str, table: Table) -> list[str]:
    lines = ["```", f"make reproduce NAME={name}"]
    if not table.layers:
        lines[1] += "                          # every step, on the simulated place"
        lines.append(f"make reproduce NAME={name} DATA=/path/to/{WANTED[table.data]} RUNS=runs")
    return [*lines, "```", ""]


def _rows(table: Table) -> list[str]:
    """The printed rows, and what stands for each."""
    printed = {row.method: row.numbers for row in table.benchmark.published() or ()}
    columns = list(dict.fromkeys(name for numbers in printed.values() for name in numbers))
    head = [f"Data: {WANTED[table.data]}, {table.benchmark.split}.", "", "## Expected rows", ""]
    if not printed:
        head += ["published: unavailable. What ours are compared with is not in the text at hand.", ""]
    lines = [f"| row | {''.join(f'{c} | ' for c in columns)}what stands for it |", f"|---|{'---|' * (len(columns) + 1)}"]
    for row in table.rows:
        numbers = printed.get(row.method, {})
        cells = "".join(f"{numbers[c]:g} | " if c in numbers else "– | " for c in columns)
        lines.append(f"| {row.method} | {cells}{_what(row)} |")
    starts = [Row(method="", recipe=name) for name in dict.fromkeys(row.start for row in table.rows if row.start)]
    eye = [Row(method="", recipe=table.features)] if table.features else []
    learnt = [row for row in (*starts, *eye, *table.rows) if row.recipe]
    trained = dict.fromkeys(command(row, Path("runs"), _root(row.recipe)) for row in learnt)
    taught = ["", "## Training", "", "```", *trained, "```"] if trained else []
    return [*head, *lines, *taught, ""]


def _root(recipe: str) -> str:
    """What stands for the data set that a recipe is taught on."""
    return TAUGHT_ON[read_recipe(recipe).data.kind]


def _what(row: Row) -> str:
    if row.missing:
        return f"missing: {row.missing}"
    settings = "".join(f", {k} {v}" for k, v in row.settings.items())
    group = f", images of `{row.variant}`" if row.variant else ""
    dates = f", {row.dates} dates" if row.dates else ""
    cover = f", all inputs {100 * row.cover[0]:.0f} to {100 * row.cover[1]:.0f} % covered" if row.cover else ""
    return f"{'model' if row.model else 'recipe'} `{row.model or row.recipe}`{settings}{group}{dates}{cover}"


def _layers(table: Table) -> list[str]:
    rows = [f"| {part} | {told.get('printed', 'unavailable')} |" for part, told in table.layers.items()]
    return ["## Expected rows", "", "| part | layers as printed |", "|---|---|", *rows, ""]


def _notes(table: Table) -> list[str]:
    notes = [*([table.substitute] if table.substitute else []), *table.benchmark.notes]
    protocol = [f"Protocol: `{table.protocol}`.", ""] if table.protocol else []
    return [*protocol, *(["## Notes", "", *(f"- {note}" for note in notes)] if notes else [])]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description="the README of every table's folder")
    parser.add_argument("--tables", type=Path, default=FOLDER)
    folder = parser.parse_args(arguments).tables
    for name in names(folder):
        (folder / name / "README.md").write_text(page(name, folder), encoding="utf-8")


if __name__ == "__main__":
    main()
