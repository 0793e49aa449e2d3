"""Settings of a model from outside (a command, a recipe, the header of a file): of the right type, or refused in words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from unclouded.errors import UsageError

UNBUILT = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)  # of layers that cannot be


def checked(kind: type[Any], values: Mapping[str, Any], of: str = "the model", before: str = "") -> Any:
    """The Config dataclass `kind` with some of its fields set to `values`, which are as in JSON: a list stands for a tuple.

    `of`, `before`: how the model is called in an error, and what a setting's name begins with there.
    Raises UsageError for an unknown setting, and for a value of another type or that is none of those allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in fields(kind)]
    if unknown := [name for name in values if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.3)
        why = f"did you mean {before}{near[0]}?" if near else f"its settings are: {', '.join(known) or 'none'}."
        raise UsageError(f"{of[0].upper()}{of[1:]} has no setting '{unknown[0]}'.", where=f"{before}{unknown[0]}", why=why)
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values, default=_plain), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
    name, given = str(first["loc"][0]), first["input"]
    raise UsageError(f"The setting '{before}{name}' of {of} cannot be {given!r}.", why=_why(first, given))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _why(first: Mapping[str, Any], given: Any) -> str:
    if first["type"] != "literal_error":
        return str(first["msg"])
    allowed = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
    near = difflib.get_close_matches(str(given), allowed, n=1)
    return f"did you mean {near[0]}?" if near else f"it is one of: {', '.join(allowed)}."
