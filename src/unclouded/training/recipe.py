"""A recipe: one published row, or ablation, as TOML. Whatever is not in its table of settings is refused by name.

A recipe may start from another (`base = "..."`) and state only what differs. Settings can be changed with `a.b=c`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from unclouded.errors import InputMissing, UsageError

Values = dict[str, Any]
WHOLE = (0.0, 1.0)  # any cover


def _range(cover: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= cover[0] <= cover[1] <= 1:
        raise ValueError("expected two shares from 0 to 1, the smaller one first, such as [0.1, 0.7]")
    return cover


Cover = Annotated[tuple[float, float], AfterValidator(_range)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """Which published numbers the recipe should lead to, and what the paper leaves open."""

    paper: str
    table: str = ""
    row: str = ""
    assumed: tuple[str, ...] = ()
    published: dict[str, float] = {}


class Model(_Part):
    """A network of the table, its Config changed by `set`; `start`: weights or a run to start from."""

    name: str
    set: dict[str, Any] = {}
    start: str = ""


class Data(_Part):
    """What is shown.

    `kind`: one cloudy image and its truth, several dates and the truth of another (or of the middle one, `inside`), or a clear
    image, which is then its own truth. `mask`: the detector that says what is hidden (a sample that brings its own cloud map
    keeps it); `auto`: the first of the automatic ones that fits the data; `ones`: everything.
    `clouds`: real, or synthetic ones over the clear ground. `paired`: share of samples whose truth is of the same place;
    the others see the truth of another. `crop`: side in pixels, 0 whole. `count`, `size`: of the simulated place.
    `cover`: the hidden share that inputs may have, by `mask`, or as `auto` where that names no detector. `donors`: a data set
    whose clouds are cut out. `limit`: so many samples, evenly spread; 0 all. `validation`: how many samples of the validation
    split are looked at.
    """

    kind: Literal["triplets", "series", "clear"]
    mask: Literal["none", "auto", "meraner2020", "tum", "s2cloudless", "sixband", "ones"] = "none"
    clouds: Literal["real", "perlin", "copied", "cut-out", "physical", "transplanted"] = "real"
    synthetic_cover: Cover = (0.1, 0.7)
    donors: str = ""
    dates: int = Field(default=3, ge=1)
    inside: bool = False
    cover: Cover = WHOLE
    paired: float = Field(default=1.0, ge=0, le=1)
    crop: int = Field(default=0, ge=0)
    centre: bool = False
    flips: bool = False
    turns: bool = False
    count: int = Field(default=64, ge=1)
    size: int = Field(default=256, ge=16)
    limit: int = Field(default=0, ge=0)
    validation: int = Field(default=8, ge=0)
    workers: int = Field(default=0, ge=0)


class Loss(_Part):
    """Weights of the terms; a term of weight 0 is not computed, one that the task does not know is refused (`sense.py`).

    `network`: a VGG16 run or file, or `random`.
    """

    l1: float = 0
    l2: float = 0
    carl: float = 0
    carl_lambda: float = 1
    ssim: float = 0
    sam: float = 0
    nll: float = 0
    nll_as_published: bool = False
    series: float = 0  # L1 on what every input date shows itself
    perceptual: float = 0
    style: float = 0
    network: str = ""
    gan: float = 0
    gan_kind: Literal["vanilla", "lsgan"] = "vanilla"
    pool: int = Field(default=0, ge=0)
    simulation: float = 0  # L1 of the image simulated from radar
    attention: float = 0  # SpA-GAN's map
    cycle: float = 0
    identity: float = 0
    cloud_map: float = 0


class Schedule(_Part):
    """How the learning rate falls with the epoch: not, by halves, or in a line to (almost) zero."""

    kind: Literal["constant", "halve", "linear"] = "constant"
    every: int = Field(default=5, ge=1)
    keep: int = Field(default=0, ge=0)
    decay: int = Field(default=1, ge=1)
    offset: int = 1

    def factor(self, epoch: int) -> float:
        """For epoch 0, 1, ... `linear`: 1 - max(0, offset + epoch - keep) / (decay + 1), and never below 0."""
        if self.kind == "halve":
            return 0.5 ** (epoch // self.every)
        if self.kind == "linear":
            return max(0.0, 1.0 - max(0, self.offset + epoch - self.keep) / (self.decay + 1))
        return 1.0


class Train(_Part):
    """How it is trained. `freeze`: beginnings of parameter names left alone for `freeze_steps` (-1: always).

    `ema`: decay of a running mean of the weights, which is then what is saved; 0 none. `clip`: largest gradient norm, 0 none.
    `precision`: bf16 computes the networks in bfloat16 and keeps weights in float32. `steps`: stop there; 0: after `epochs`.
    `weight_decay`: of the optimizer: decoupled for adamw, else added to the gradient as the square of the weights has it.
    """

    task: Literal["regression", "paired", "cycle", "land cover"] = "regression"
    optimizer: Literal["adam", "nadam", "adamw", "sgd"] = "adam"
    rate: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = Field(default=0, ge=0)
    schedule: Schedule = Schedule()
    epochs: int = Field(ge=1)
    steps: int = Field(default=0, ge=0)
    batch: int = Field(ge=1)
    freeze: tuple[str, ...] = ()
    freeze_steps: int = Field(default=0, ge=-1)
    clip: float = Field(default=0, ge=0)
    ema: float = Field(default=0, ge=0, lt=1)
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0
    log_every: int = Field(default=20, ge=1)
    save_every: int = Field(default=500, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    top: int = Field(default=3, ge=0)
    previews: int = Field(default=3, ge=0)


class Recipe(_Part):
    """Everything that decides a run, but the data."""

    name: str
    summary: str
    source: Source
    model: Model
    data: Data
    loss: Loss
    train: Train

    def digest(self) -> str:
        """sha256 of all settings."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def recipes() -> dict[str, Recipe]:
    """All recipes that come with the package, by name."""
    folder = files("unclouded.training").joinpath("recipes")
    names = sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name: read_recipe(name) for name in names}


def read_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its name or file, changed by overrides like `train.batch=4`. Raises InputMissing, UsageError."""
    values = _values(str(recipe))
    for text in overrides:
        _override(values, text)
    return checked(values, where=recipe)


def checked(values: Mapping[str, Any], *, where: object = "") -> Recipe:
    """A Recipe out of plain values. Raises UsageError naming the setting, and the nearest one for a typo."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _explained(error, where) from None


@cache
def _text(name: str) -> str:
    path = Path(name)
    inside = files("unclouded.training").joinpath("recipes", f"{name}.toml")
    if path.suffix == ".toml" and path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("The recipe cannot be read as text (UTF-8).", where=name, why=str(error)) from None
    if "/" not in name and inside.is_file():
        return inside.read_text(encoding="utf-8")
    folder = files("unclouded.training").joinpath("recipes")
    known = [entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise InputMissing(
        f"There is no recipe '{name}'.", why=f"did you mean {' or '.join(near)}?" if near else "",
        do="see `unclouded train --list`, or give a .toml file.",
    )  # fmt: skip


def _values(name: str, above: tuple[str, ...] = ()) -> Values:
    """A recipe over its base, which may have one too. `above`: the recipes that start from this one."""
    if name in above:
        raise UsageError(
            "The recipe starts from itself (base).", where=above[0], why=" starts from ".join([*above, name]) + ".",
            do="name another recipe as its base.",
        )  # fmt: skip
    try:
        own = tomllib.loads(_text(name))
    except tomllib.TOMLDecodeError as error:
        raise UsageError("The recipe is not valid TOML.", where=name, why=str(error)) from None
    own.setdefault("name", Path(name).name.removesuffix(".toml"))
    base = own.pop("base", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise UsageError(f"The setting 'base' cannot be {base!r}.", where=name, why="it is the name of a recipe, or its file.")
    inherited = _values(base, (*above, name))
    if isinstance(inherited.get("source"), dict):
        inherited["source"].pop("published", None)  # numbers are of one row only
    return _merged(inherited, own)


def _merged(base: Values, own: Values) -> Values:
    """`own` over `base`, table by table; lists are replaced."""
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(value, dict) and isinstance(old, dict) else value
    return merged


def _override(values: Values, text: str) -> None:
    path, equals, written = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text} has no value.", do="write --set train.batch=4.")
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written
    *tables, last = path.strip().split(".")
    at = values
    for table in tables:
        at = at.setdefault(table, {})
        if not isinstance(at, dict):
            raise UsageError(f"--set {path}: {table} is a setting and not a table.")
    at[last] = value


def _explained(error: ValidationError, where: object) -> UsageError:
    """The first complaint in words; for an unknown key, the nearest known one."""
    first = error.errors()[0]
    *tables, key = (str(part) for part in first["loc"])
    path = ".".join([*tables, key])
    if first["type"] == "extra_forbidden":
        known = _keys(tables)
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.3)
        why = f"did you mean {'.'.join([*tables, near[0]])}?" if near else f"there are: {', '.join(known)}."
        return UsageError(f"A recipe has no setting '{path}'.", where=where, why=why)
    why = str(first["msg"]).removeprefix("Value error, ")
    return UsageError(f"The setting '{path}' cannot be {first['input']!r}.", where=where, why=why)


def _keys(tables: Sequence[str]) -> list[str]:
    at: Any = Recipe
    for table in tables:
        at = at.model_fields[table].annotation
    return list(at.model_fields)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """One line per setting that differs between two recipes as plain values."""
    lines = []
    for key in sorted({*old, *new}):
        a, b, name = old.get(key), new.get(key), f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name} was {a!r}, is {b!r}")
    return lines


def overview() -> list[dict[str, Any]]:
    """One row per recipe, for `unclouded train --list`."""
    return [
        {"recipe": r.name, "summary": r.summary, "model": r.model.name, "paper": r.source.paper, "table": r.source.table,
         "row": r.source.row, "published": r.source.published, "assumed": list(r.source.assumed)}
        for r in recipes().values()
    ]  # fmt: skip
