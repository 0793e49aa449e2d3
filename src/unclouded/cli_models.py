"""`unclouded models`: the table of methods, one in full, import of published weights, export of networks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unclouded.errors import UsageError
from unclouded.text import lines

app = typer.Typer(help="List the methods with what each needs; import and export weights.", rich_markup_mode=None)

TOLD = "A setting that the file does not tell (uncrtaints: scale_by, variance; utilise: heads), name=value. Repeatable."
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


@app.callback(invoke_without_command=True)
def table(context: typer.Context, as_json: Json = False) -> None:
    """List the methods with what each needs (without a command)."""
    if context.invoked_subcommand is not None:
        return
    from unclouded.models.table import overview

    rows = overview()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table("model", "what it does", "weights", "dates", "radar", "bands", "source", box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*(row[key] for key in ("model", "summary", "weights", "dates", "sar", "bands", "source")))
    Console(width=None if sys.stdout.isatty() else 180).print(shown)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A method, or a weights file.")], as_json: Json = False) -> None:
    """Tell all about one method: needs, settings, size, source, what was assumed; or about a weights file."""
    found: dict[str, Any]
    if name.endswith(".safetensors"):
        from dataclasses import asdict

        from unclouded.models.weights import read

        found = asdict(read(Path(name)))
    else:
        from unclouded.models.table import overview

        (found,) = overview(name)
    print(json.dumps(found, indent=2) if as_json else lines(found))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The authors' file: .hdf5 or .pth.")],
    kind: Annotated[str, typer.Option("--from", help="What it is: see the error message of a wrong name for the list.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    setting: Annotated[list[str] | None, typer.Option("--set", help=TOLD)] = None,
) -> None:
    """Turn an authors' published weights into a safe file. Read in a child process; nothing in the file is ever executed."""
    from unclouded.models.published import PUBLISHED, import_file
    from unclouded.options import settings

    told = settings(setting)
    record = import_file(kind, file, out, told)
    print(f"wrote {out}: {record.model}, {record.parameters:,} parameters, licence {record.licence}")
    if assumed := {name: value for name, value in PUBLISHED[kind].untold.items() if name not in told}:
        as_set = " ".join(f"--set {name}={value}" for name, value in assumed.items())
        print(f"The file does not tell these, taken as its authors published them: {as_set}")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Weights (.safetensors) or the folder of a training run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .pt2 or .onnx.")],
    side: Annotated[int, typer.Option(help="Pixels of the example patch.")] = 256,
) -> None:
    """Write a network as a torch program (.pt2) or ONNX (.onnx) that takes reflectance and dB and runs without this package."""
    from unclouded.models import load
    from unclouded.models.export import export_onnx, export_pt2
    from unclouded.models.single_date import SingleDate

    kinds: dict[str, Literal["pt2", "onnx"]] = {".pt2": "pt2", ".onnx": "onnx"}
    if out.suffix not in kinds:
        raise UsageError(f"'{out.name}' tells no format.", do="end the name in .pt2 or .onnx.")
    remover = load(str(file))
    if not isinstance(remover, SingleDate):
        raise UsageError("Only networks for a single date can be exported.", where=file)
    (export_pt2 if kinds[out.suffix] == "pt2" else export_onnx)(remover, out, side)
    print(f"wrote {out}")
