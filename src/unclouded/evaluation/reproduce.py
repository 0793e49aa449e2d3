"""Reproduce a paper's table as far as the data and weights at hand allow: paper, ours, difference; what is missing is named.

A recipe is a file reproduce/<benchmark>.toml: which of our models stands for which printed row, and which data it needs.
Without data it runs on the simulated place, to show that every step works; such numbers are marked and mean nothing else.

`python -m unclouded.evaluation.reproduce NAME [--data ROOT] [--out FOLDER] [--jobs N] [--limit N]`
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unclouded.errors import InputMissing, UncloudedError, UsageError
from unclouded.evaluation.benchmarks import Benchmark, benchmark
from unclouded.evaluation.data import SIMULATED, open_data, simulated
from unclouded.evaluation.evaluate import Contender, Samples, evaluate
from unclouded.evaluation.protocols import blended
from unclouded.evaluation.results import Results
from unclouded.sample import Sample

FOLDER = Path("reproduce")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a table needs: the printed rows that we can run (method -> our model), and why the others cannot be run."""

    benchmark: Benchmark
    data: str  # sen12mscr, sen12mscrts, or none: the data were never published
    dates: int | None = None  # input dates per sample
    blend: bool = False  # the sequence-to-sequence task: clouds laid over the least cloudy date
    mask: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Recipe:
        """From a file. Raises UsageError for keys that mean nothing, or a printed row that is neither run nor missing."""
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = set(told) - {"data", "dates", "blend", "mask", "models", "missing"}
        if unknown:
            raise UsageError(f"The recipe has settings that mean nothing: {', '.join(sorted(unknown))}.", where=path)
        recipe = Recipe(benchmark=benchmark(path.stem), **told)
        printed = [row.method for row in recipe.benchmark.published() or ()]
        silent = [m for m in printed if m not in recipe.models and m not in recipe.missing]
        if silent:
            raise UsageError(
                f"The recipe is silent about {', '.join(silent)}.", where=path, do="say what runs it or what is missing."
            )
        return recipe


def names(folder: Path = FOLDER) -> list[str]:
    """The tables that have a recipe."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def recipe_of(name: str, folder: Path = FOLDER) -> Recipe:
    """The recipe of a table. Raises UsageError with those there are."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        raise UsageError(f"There is no recipe for '{name}'.", where=folder, why=f"there are: {', '.join(names(folder))}.")
    return Recipe.read(path)


def samples_of(recipe: Recipe, root: Path | None) -> Samples:
    """The data of a table from a root, or simulated places. Raises InputMissing where the data were never published."""
    if root is None:
        dates = 4 if recipe.blend else recipe.dates or 1
        places: Samples = [simulated(seed, dates=dates) for seed in range(4)]
        return _Blended(places) if recipe.blend else places
    if recipe.data == "none":
        raise InputMissing(
            "The data of this table were never published.", where=recipe.benchmark.split,
            do="run it without data, on the simulated place.",
        )  # fmt: skip
    radar = any(model.startswith("sar-") for model in recipe.models.values())
    dates = 0 if recipe.blend else recipe.dates or 0
    data = open_data(root, dates=dates, mask=recipe.mask, s1=radar)
    return _Blended(data) if recipe.blend else data


@dataclass(frozen=True)
class _Blended:
    source: Samples

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        return blended(self.source[index])


@dataclass(frozen=True)
class Outcome:
    """One printed row beside ours."""

    method: str
    ours: str
    numbers: dict[str, tuple[float | None, float | None]]  # column -> (printed, measured)
    missing: str = ""


def reproduce(
    name: str, *, data: Path | None = None, out: Path, jobs: int = 1, limit: int | None = None, folder: Path = FOLDER
) -> tuple[list[Outcome], Results | None]:
    """Run what can be run of a table and put it beside the printed numbers. `limit`: only the first samples.

    Raises UsageError, InputMissing. None instead of results where nothing can be run.
    """
    recipe = recipe_of(name, folder)
    models = list(dict.fromkeys(recipe.models.values()))
    results = None
    if models:
        samples = samples_of(recipe, data)
        if limit is not None:
            samples = [samples[i] for i in range(min(limit, len(samples)))]
        results = evaluate(
            [Contender(m) for m in models], samples, name, out=out, jobs=jobs,
            mask="given" if data is None else recipe.mask,
        )  # fmt: skip
    return _outcomes(recipe, results), results


def _outcomes(recipe: Recipe, results: Results | None) -> list[Outcome]:
    printed = {row.method: dict(row.numbers) for row in recipe.benchmark.published() or ()}
    found = []
    for method in [*printed, *(m for m in (*recipe.models, *recipe.missing) if m not in printed)]:
        model = recipe.models.get(method, "")
        rows: dict[str, Any] = results.told["models"][model]["rows"] if results is not None and model else {}
        columns = printed.get(method) or dict.fromkeys(list(rows)[:6])
        numbers = {c: (printed.get(method, {}).get(c), _number(rows.get(c, {}).get("value"))) for c in columns}
        found.append(Outcome(method, model, numbers, recipe.missing.get(method, "")))
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def text(name: str, outcomes: Sequence[Outcome], *, simulated: bool) -> str:
    """The comparison as lines: paper, ours, difference; then what is missing."""
    record = benchmark(name)
    said = [f"{record.source}: {record.about}"]
    if simulated:
        said.append("On the SIMULATED place: the steps are real, the numbers are not comparable with the paper's.")
    if record.table is None:
        said.append("published: unavailable")
    for outcome in (o for o in outcomes if o.ours):
        said.append(f"{outcome.method} ({outcome.ours})")
        said += [f"  {c:28s} paper {_said(p):>9s}  ours {_said(m):>9s}  difference {_said(_minus(m, p)):>9s}"
                 for c, (p, m) in outcome.numbers.items()]  # fmt: skip
    said += [f"missing: {o.method}: {o.missing}" for o in outcomes if o.missing]
    return "\n".join([*said, *(f"note: {note}" for note in record.notes)])


def _said(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m unclouded.evaluation.reproduce", description="a table of a paper: printed, ours, difference"
    )
    parser.add_argument("name", help="a table with a recipe, or 'all'")
    parser.add_argument("--data", type=Path, help="the root of the data set; without it the simulated place")
    parser.add_argument("--out", type=Path, default=Path("out/reproduce"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only the first samples")
    parser.add_argument("--recipes", type=Path, default=FOLDER)
    asked = parser.parse_args(arguments)
    try:
        for name in names(asked.recipes) if asked.name == "all" else [asked.name]:
            kind = SIMULATED if asked.data is None else "data"
            outcomes, _ = reproduce(
                name, data=asked.data, out=asked.out / name / kind, jobs=asked.jobs, limit=asked.limit, folder=asked.recipes
            )
            print(text(name, outcomes, simulated=asked.data is None), end="\n\n")
    except UncloudedError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
