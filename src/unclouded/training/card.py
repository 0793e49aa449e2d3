"""The model card: what was trained, on what, how, with which result, and what it may be used for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unclouded.training.checkpoint import write_whole
from unclouded.training.data import Opened
from unclouded.training.recipe import Recipe

CARD = "model-card.md"


def write_card(out: Path, recipe: Recipe, opened: Opened, scores: Mapping[str, float], *, steps: int) -> dict[str, Any]:
    """Write the card; returns what goes into the header of the weights. Raises OutputFailed."""
    write_whole(out / CARD, _text(recipe, opened, scores, steps).encode())
    return {
        "model": recipe.model.name,
        "licence": f"weights: by whoever trained them; data: {opened.licence}",
        "trained_on": f"{opened.name}, split {opened.split}, sha256 {opened.digest}",
        "citation": f"{recipe.source.paper}, {recipe.source.table}".rstrip(", "),
        "numbers": dict(scores),
    }


def _text(recipe: Recipe, opened: Opened, scores: Mapping[str, float], steps: int) -> str:
    source = recipe.source
    assumed = "\n".join(f"- {line}" for line in source.assumed) or "- nothing"
    published = ", ".join(f"{name} {value:g}" for name, value in source.published.items()) or "none"
    measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in scores.items()) or "| none | no validation split |"
    return f"""# {recipe.model.name}, trained by the recipe {recipe.name}

{recipe.summary}

Use it with `unclouded remove SERIES --model RUN ...`, RUN being this folder.

## Data
{opened.name}, split {opened.split}, {len(opened.source)} samples; sha256 of the list: `{opened.digest}`.
Licence of the data: {opened.licence}. Whoever publishes these weights states their licence.

## Training
{steps} steps of batch {recipe.train.batch}, {recipe.train.optimizer}, rate {recipe.train.rate:g}, seed {recipe.train.seed}.
Paper: {source.paper}; {source.table} {source.row}. Published there: {published}.

Decided here, where the paper leaves it open:
{assumed}

## Result
Mean over the first {recipe.data.validation} validation samples, full size, all valid pixels, reflectance clipped to [0, 1]
(psnr in dB, sam in degrees, mae in reflectance). These are not the numbers of a benchmark: run `unclouded evaluate` for those.

| | |
|---|---|
{measured}

## Settings
```json
{json.dumps(recipe.model_dump(mode="json"), indent=2)}
```
Made with unclouded {version("unclouded")}, torch {version("torch")}, lightning {version("lightning")}.
"""
