"""`unclouded evaluate`, `train` and `adapt`: for those who compare and teach models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclouded.errors import UsageError
from unclouded.options import settings
from unclouded.text import lines

if TYPE_CHECKING:
    from unclouded.evaluation.results import Results
    from unclouded.training.log import State

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def evaluate(
    model: Annotated[list[str], typer.Option("--model", help="A method, a baseline, or a run's folder. Repeatable.")],
    data: Annotated[str, typer.Option(help="The folder of SEN12MS-CR(-TS), or 'simulated'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results.json and report.html.")],
    benchmark: Annotated[str, typer.Option(help="The protocol; a wrong name lists them.")] = "unclouded-v1",
    preset: Annotated[str | None, typer.Option(help="Another metric convention than the protocol's.")] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    rule: Annotated[str, typer.Option(help="How regions are matched: exact, or as_published_substring.")] = "exact",
    dates: Annotated[int, typer.Option(help="Inputs per series.")] = 3,
    mask: Annotated[str | None, typer.Option(help="The detector that says what is hidden.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Show the data in another way; a wrong name lists the ways.")] = None,
    features: Annotated[
        Path | None, typer.Option(help="A run of vgg16-landcover, or weights of a VGG: for precision, recall and F1.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    store: Annotated[bool, typer.Option("--store", help="Keep every prediction as a GeoTIFF.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew instead of going on.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Score models on a data set under one protocol, with intervals over regions; resumes where it stopped."""
    from unclouded.evaluation.data import open_data
    from unclouded.evaluation.evaluate import evaluate as run

    if split not in ("train", "val", "test", "all"):
        raise UsageError(f"--split {split} is not known.", do="use train, val, test or all.")
    if rule not in ("exact", "as_published_substring"):
        raise UsageError(f"--rule {rule} is not known.", do="use exact or as_published_substring.")
    part: Any = None if split == "all" else split
    matched: Any = rule
    samples = open_data(data, split=part, rule=matched, dates=dates, mask=mask, protocol=protocol or "")
    results = run(
        model, samples, benchmark, out=out, preset_name=preset, mask=mask, protocol_name=protocol,
        features=None if features is None else str(features), jobs=workers, store=store, fresh=overwrite, seed=seed,
        progress=_counted if sys.stderr.isatty() else None,
    )  # fmt: skip
    if as_json:
        print(json.dumps(results.told, indent=2, default=str))
        return
    _print_scores(results)
    print(f"wrote {out / 'results.json'}\nlook at {out / 'report.html'} in a browser")


def _counted(done: int, total: int) -> None:
    print(f"\r{done} of {total}", end="" if done < total else "\n", file=sys.stderr)


def _print_scores(results: Results) -> None:
    from rich.console import Console
    from rich.table import Table

    from unclouded.evaluation.results import headline

    models: dict[str, Any] = results.told["models"]
    rows = next(iter(models.values()))["rows"]
    table = Table("", *models, box=None, pad_edge=False)
    for name, first in rows.items():
        if first["count"]:
            table.add_row(f"{name} {first['unit']}".strip(), *(_cell(m["rows"].get(name)) for m in models.values()))
    for name in ("precision", "recall", "f1") if results.told["features"] else ():
        table.add_row(f"{name} of the set", *(_cell({"value": m["manifold"].get(name)}) for m in models.values()))
    for variant in next(iter(models.values()))["by_variant"]:
        name = headline(results)
        table.add_row(f"{name}, {variant}", *(_cell({"value": m["by_variant"][variant].get(name)}) for m in models.values()))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    span = "" if row.get("low") is None else f" [{row['low']:.4g}, {row['high']:.4g}]"
    return f"{row['value']:.4g}{span}"


def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's name or a .toml file.")] = None,
    data: Annotated[str, typer.Option(help="The data set folder, or 'simulated'.")] = "simulated",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: a.b=value. Repeatable.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped, to the same bits.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    show: Annotated[bool, typer.Option("--list", help="List the recipes: one per row of the papers' tables.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model as a paper did (or otherwise): logs, checkpoints, weights and a model card in one folder."""
    from unclouded.training.recipe import overview

    if show:
        rows = overview()
        print(json.dumps(rows, indent=2) if as_json else "\n".join(_recipe(row) for row in rows))
        return
    if recipe is None or out is None:
        raise UsageError("Which recipe, and where to?", do="give a recipe and --out RUN, or --list to see the recipes.")
    from unclouded.training.run import train as run

    done = run(recipe, data, out, overrides=setting or [], resume=resume, device=device, progress=_stepped)
    found = {"folder": str(done.folder), "weights": str(done.weights), "steps": done.steps, "scores": done.scores}
    print(json.dumps(found, indent=2) if as_json else lines(found))


def _recipe(row: dict[str, Any]) -> str:
    return f"{row['recipe']:32s} {row['summary']}  [{row['paper']}, {row['table']}]"


def _stepped(state: State) -> None:
    if sys.stderr.isatty():
        values = ", ".join(f"{name} {value:.4g}" for name, value in state.values.items())
        ending = "\n" if state.step == state.steps else ""
        print(f"\rstep {state.step} of {state.steps}, {state.left / 60:.1f} min left: {values}   ", end=ending, file=sys.stderr)


def adapt(
    model: Annotated[str, typer.Argument(help="A run's folder, weights, or a network's name (then it starts untrained).")],
    scene: Annotated[list[str], typer.Option("--scene", help="The series to learn from, as for `remove`. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new weights; use it as `remove --model FOLDER`.")],
    s1: Annotated[list[str] | None, typer.Option(help="Sentinel-1: a folder, a manifest or files. Repeatable.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="A setting of an untrained network, name=value.")] = None,
    steps: Annotated[int, typer.Option(help="At most so many steps.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that draws.")] = 0,
    as_json: Json = False,
) -> None:
    """Fine-tune a network on your own place, without cloud-free truth: hidden clear pixels teach it; held-out ones judge."""
    from unclouded.masks.detect import detect
    from unclouded.scenes.open import open_scene
    from unclouded.training.adapt import adapt as run

    place = detect(open_scene(scene, s1 or None))
    done = run(model, place, out, settings=settings(setting), steps=steps, seed=seed, progress=_stepped)
    found = {"folder": str(done.folder), "steps": done.steps, "held-out MAE before": done.before, "after": done.after}
    print(json.dumps(found, indent=2) if as_json else lines(found))
