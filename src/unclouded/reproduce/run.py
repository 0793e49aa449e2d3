"""THE FLOW of a reproduction: a table's folder and the data at hand in; paper, ours and difference out. Read this first.

read        which model stands for which printed row                        table.py
stand in    find the trained runs, or rehearse them                         stand_ins.py
evaluate    rows of one view together, under the table's conventions       below
compare     with the printed numbers; what is missing is named              below

Without data everything runs on the simulated place, networks as rehearsals: that proves the steps, and the numbers say so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unclouded.errors import InputMissing, UncloudedError
from unclouded.evaluation.benchmarks import benchmark
from unclouded.evaluation.data import open_data, simulated_places
from unclouded.evaluation.evaluate import evaluate
from unclouded.evaluation.results import Results
from unclouded.evaluation.views import Samples
from unclouded.reproduce.layers import ours
from unclouded.reproduce.stand_ins import SIDE, StandIn, features, stand_in
from unclouded.reproduce.table import FOLDER, Row, Table, View, names, table_of

MANIFOLD = ("precision", "recall", "f1")
SHOWN = 6  # rows of the preset, where nothing is printed and the table names none


@dataclass(frozen=True)
class Outcome:
    """One row: what stood for it, printed and measured numbers by column, or why there are none. `said`: words instead."""

    method: str
    ours: str = ""
    numbers: dict[str, tuple[float | None, float | None]] | None = None
    missing: str = ""
    said: tuple[tuple[str, str], ...] = ()


def reproduce(
    name: str, *, data: Path | None = None, out: Path, runs: Path | None = None, jobs: int = 1, limit: int | None = None,
    folder: Path = FOLDER, fresh: bool = False,
) -> list[Outcome]:  # fmt: skip
    """Run what can be run of a table. `data` None: the simulated place. `runs`: trained runs by recipe. `limit`: only the
    first samples. `fresh`: begin anew in a folder that holds an earlier evaluation of data.

    Raises UsageError, and InputMissing for data that are not there.
    """
    table = table_of(name, folder)
    if table.layers:
        return [_layers(part, told) for part, told in table.layers.items()]
    place = out / name / ("simulated" if data is None else "data")
    trained = runs or out / ("rehearsals" if data is None else "runs")
    chosen = {row.method: stand_in(row, trained, data) for row in table.rows}
    network = features(table, trained, data)
    views = dict.fromkeys(table.view(row) for row in table.rows if chosen[row.method].contender is not None)
    results = {
        view: _evaluated(table, view, chosen, data, place / view.name, network=network, jobs=jobs, limit=limit, fresh=fresh)
        for view in views
    }
    return [_outcome(table, row, chosen[row.method], results.get(table.view(row))) for row in table.rows]


def samples_of(table: Table, view: View, data: Path | None) -> Samples:
    """The data of a view: from a root, or simulated places."""
    if data is None:
        return simulated_places(dates=view.dates, protocol=view.protocol, cover=view.cover, side=SIDE)
    radar = any(row.recipe or row.model.startswith("sar-") for row in table.rows)
    samples = open_data(
        data, dates=view.dates, mask=table.mask, s1=radar or None, cover=view.cover, protocol=view.protocol
    )  # fmt: skip
    if table.data == "sen12mscrts" and len(samples[0].s2_dates) < 2:
        raise InputMissing("This table is about series of dates, and the data have single ones.", where=data,
                           do="give the folder of SEN12MS-CR-TS.")  # fmt: skip
    return samples


def _evaluated(
    table: Table, view: View, chosen: dict[str, StandIn], data: Path | None, out: Path, *, network: str | None, jobs: int,
    limit: int | None, fresh: bool,
) -> Results:  # fmt: skip
    """All models of a view on its data."""
    asked = [chosen[row.method].contender for row in table.rows if table.view(row) == view]
    contenders = list({c.name: c for c in asked if c is not None}.values())
    samples = samples_of(table, view, data)
    if limit is not None:
        samples = [samples[i] for i in range(min(limit, len(samples)))]
    return evaluate(
        contenders, samples, table.benchmark.name, out=out, jobs=jobs, protocol_name=view.protocol or None,
        mask="given" if data is None else table.mask, features=network, fresh=fresh or data is None, report=data is not None,
    )  # fmt: skip


def _outcome(table: Table, row: Row, stands: StandIn, results: Results | None) -> Outcome:
    if stands.contender is None or results is None:
        return Outcome(row.method, missing=stands.missing)
    told = results.told["models"][stands.contender.name]
    measured = _measured(told, row.variant)
    printed = {r.method: dict(r.numbers) for r in table.benchmark.published() or ()}.get(row.method)
    columns = list(printed or table.columns or list(measured)[:SHOWN])
    numbers = {c: ((printed or {}).get(c), measured.get(c)) for c in columns}
    return Outcome(row.method, stands.label, numbers)


def _measured(told: dict[str, Any], variant: str) -> dict[str, float | None]:
    """The numbers of a model by row: of one variant, or of all images; and precision, recall and F1 of the set."""
    if variant:
        return {name: _number(value) for name, value in told["by_variant"].get(variant, {}).items() if name != "images"}
    found = {name: _number(row["value"]) for name, row in told["rows"].items()}
    return found | {name: _number(told["manifold"][name]) for name in MANIFOLD if name in told["manifold"]}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _layers(part: str, told: Any) -> Outcome:
    found = ours(told["network"], told["part"])
    return Outcome(part, told["network"], said=(("paper", told.get("printed", "unavailable")), ("ours", found)))


def text(name: str, outcomes: Sequence[Outcome], *, simulated: bool, folder: Path = FOLDER) -> str:
    """The comparison as lines: paper, ours, difference; what is missing; the notes of the table."""
    record, table = benchmark(name), table_of(name, folder)
    said = [f"{record.source}: {record.about}"]
    if simulated and not table.layers:
        said.append("On the SIMULATED place: the steps are real, the numbers are not comparable with the paper's.")
    if record.table is None and not any("printed" in told for told in table.layers.values()):
        said.append("published: unavailable")
    for outcome in outcomes:
        said += _lines(outcome)
    said += [f"missing: {o.method}: {o.missing}" for o in outcomes if o.missing]
    said += [f"note: {table.substitute}"] if table.substitute else []
    return "\n".join([*said, *(f"note: {note}" for note in record.notes)])


def _lines(outcome: Outcome) -> list[str]:
    if outcome.missing:
        return []
    lines = [f"{outcome.method} ({outcome.ours})"]
    lines += [f"  {c:28s} paper {_said(p):>9s}  ours {_said(m):>9s}  difference {_said(_minus(m, p)):>9s}"
              for c, (p, m) in (outcome.numbers or {}).items()]  # fmt: skip
    lines += [f"  {who:6s} {words}" for who, words in outcome.said]
    if outcome.said and outcome.said[0][1] != "unavailable":
        lines.append("  equal" if outcome.said[0][1] == outcome.said[1][1] else "  they differ")
    return lines


def _said(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _all(folder: Path) -> list[str]:
    """Every table. Raises InputMissing where there is none."""
    found = names(folder)
    if not found:
        raise InputMissing(
            "There are no tables here.", where=folder.absolute(), why="looked for <table>/table.toml.",
            do="run this in a checkout of unclouded, or say where its folder 'reproduce' is (--tables).",
        )  # fmt: skip
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m unclouded.reproduce", description="a table of a paper: printed, ours, difference"
    )
    parser.add_argument("name", help="a table with a folder, or 'all'")
    parser.add_argument("--data", type=Path, help="the root of the data set; without it the simulated place")
    parser.add_argument("--runs", type=Path, help="folder with the trained runs, each named as its recipe (default: OUT/runs)")
    parser.add_argument("--out", type=Path, default=Path("out/reproduce"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only the first samples")
    parser.add_argument("--overwrite", action="store_true", help="begin anew instead of going on")
    parser.add_argument("--tables", type=Path, default=FOLDER, help="where the folders are")
    asked = parser.parse_args(arguments)
    try:
        for name in _all(asked.tables) if asked.name == "all" else [asked.name]:
            outcomes = reproduce(
                name, data=asked.data, out=asked.out, runs=asked.runs, jobs=asked.jobs, limit=asked.limit, folder=asked.tables,
                fresh=asked.overwrite,
            )  # fmt: skip
            print(text(name, outcomes, simulated=asked.data is None, folder=asked.tables), end="\n\n")
    except UncloudedError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0
