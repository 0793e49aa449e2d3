"""What a table needs, read from reproduce/<benchmark>/table.toml: which of our models stands for which printed row.

A row names a `model` that needs no weights, a training `recipe`, or what is `missing`. Rows of one `View` are evaluated
together: the same data under the same protocol.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from unclouded.errors import UsageError
from unclouded.evaluation.benchmarks import Benchmark, benchmark
from unclouded.evaluation.views import protocol

FOLDER = Path("reproduce")
FILE = "table.toml"


class View(NamedTuple):
    """How data are shown: inputs per series, the cover that they may have, the protocol."""

    dates: int
    cover: tuple[float, float]
    protocol: str

    @property
    def name(self) -> str:
        """For a folder."""
        low, high = self.cover
        cover = "" if self.cover == (0.0, 1.0) else f"-cover{100 * low:.0f}to{100 * high:.0f}"
        return f"{self.protocol or 'plain'}-{self.dates}dates{cover}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. `settings` of the model, `simulated` ones on the simulated place; `start`: the recipe it is built upon.

    `variant`: the group of the protocol that the row is about. `dates`, `cover`, `protocol`: instead of the table's.
    """

    method: str
    model: str = ""
    recipe: str = ""
    missing: str = ""
    start: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    simulated: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    dates: int | None = None
    cover: tuple[float, float] | None = None
    protocol: str | None = None

    @property
    def contender(self) -> str:
        """A name for the results; rows of one model share it."""
        told = "".join(f" {k}={v}" for k, v in self.settings.items())
        return f"{self.model or self.recipe}{told}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a paper. `data`: the data set it wants; `substitute`: why others stand for the paper's own.

    `features`: the recipe of the network in whose features precision and recall are measured. `columns`: what to show where
    nothing is printed. `layers`: what is compared where the table lists an architecture.
    """

    benchmark: Benchmark
    data: str
    substitute: str = ""
    dates: int = 1
    protocol: str = ""
    mask: str | None = None
    features: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    layers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def view(self, row: Row) -> View:
        """How the data are shown for a row."""
        cover = row.cover or (0.0, 1.0)
        return View(row.dates or self.dates, cover, self.protocol if row.protocol is None else row.protocol)


def names(folder: Path = FOLDER) -> list[str]:
    """The tables that have a folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))


def table_of(name: str, folder: Path = FOLDER) -> Table:
    """A table by name. Raises UsageError with those there are, and what `read` raises."""
    path = folder / name / FILE
    if not path.is_file():
        raise UsageError(f"There is no folder for '{name}'.", where=folder, why=f"there are: {', '.join(names(folder))}.")
    return read(path)


def read(path: Path) -> Table:
    """From a file. Raises UsageError for settings that mean nothing, and for a printed row that is passed in silence."""
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    _known(told, Table, "benchmark", path)
    rows = tuple(_row(method, settings, path) for method, settings in told.pop("rows", {}).items())
    columns = tuple(told.pop("columns", ()))
    table = Table(benchmark=benchmark(path.parent.name), rows=rows, columns=columns, **told)
    if table.protocol:
        protocol(table.protocol)
    said = {row.method for row in rows}
    silent = [row.method for row in table.benchmark.published() or () if row.method not in said]
    if silent:
        raise UsageError(
            f"The table is silent about {', '.join(silent)}.", where=path, do="say what runs it or what is missing."
        )  # fmt: skip
    return table


def _row(method: str, told: Mapping[str, Any], path: Path) -> Row:
    _known(told, Row, "method", path)
    if sum(key in told for key in ("model", "recipe", "missing")) != 1:
        raise UsageError(f"The row '{method}' needs one of model, recipe and missing.", where=path)
    cover = tuple(told["cover"]) if "cover" in told else None
    return Row(**{**told, "method": method, "cover": cover})


def _known(told: Mapping[str, Any], kind: type[Any], own: str, path: Path) -> None:
    unknown = set(told) - {f.name for f in fields(kind)} | ({own} & set(told))
    if unknown:
        raise UsageError(f"The table has settings that mean nothing: {', '.join(sorted(unknown))}.", where=path)
