"""The report of an evaluation: one HTML file with tables, charts, pictures and sliders; nothing is loaded from elsewhere.

Every text goes through escaping: ids and model names come from files and callers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclouded.evaluation import charts
from unclouded.evaluation.described import in_words
from unclouded.evaluation.examples import Example
from unclouded.evaluation.results import NO_FEATURES, Results, headline
from unclouded.metrics.average import POOL_ALL, POOL_SERIES

if TYPE_CHECKING:
    from jinja2 import Template

CURVES = 4  # charts over cover and variants, one per headline row
MEANS = {POOL_ALL: "all pooled", POOL_SERIES: "per series", 1: "per image"}


def render(results: Results, shown: Sequence[Example]) -> str:
    """The report as one HTML text."""
    told = results.told
    models = [m for m, found in told["models"].items() if found["images"]]
    return _template().render(
        told=told, models=models, source=results.preset.source, examples=shown, row=headline(results),
        columns=_columns(results), summary=_summary(results, models), rows=_rows(results, models),
        over_cover=_over_groups(results, models, "by_cover", "cloud cover, %"),
        over_variants=_over_groups(results, models, "by_variant", _varied(told)), manifold=_manifold(told, models),
        over_bands=_over_bands(results, models),
        calibration=_calibration(told, models), paired=_paired(results), groups=_groups(results, models),
        warnings=_warnings(told, models), facts=_facts(told),
    )  # fmt: skip


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    text = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(text)


def _columns(results: Results) -> list[str]:
    """The columns of the summary: those of the published table, else the first rows of the preset."""
    published = results.told["published"]
    names = [row.name for row in results.preset.rows]
    if isinstance(published, list) and published:
        printed = {name for row in published for name in row["numbers"]}
        extra = [n for n in ("PSNR hidden", "MAE hidden") if n in names and n not in printed]
        return [n for n in names if n in printed] + extra
    wished = ("PSNR", "SSIM", "SAM", "MAE", "RMSE", "PSNR hidden", "SAM hidden", "MAE hidden", "RMSE hidden")
    found = [n for n in wished if n in names]
    return found if len(found) > 2 else names[:8]


def _figure(value: Any, unit: str = "") -> str:
    """A number as tables show it; an en dash where there is none."""
    if value is None:
        return "–"
    if not isinstance(value, (int, float)):
        return "∞" if value == "inf" else str(value)
    if not math.isfinite(value):
        return "–"
    digits = 2 if unit in ("dB", "°") or abs(value) >= 10 else 4
    return f"{value:.{digits}f}"


def _summary(results: Results, models: Sequence[str]) -> list[dict[str, Any]]:
    """Our rows first, then the published ones."""
    columns, told = _columns(results), results.told
    best = {name: _best(results, models, name) for name in columns}
    table = []
    for model in models:
        rows = told["models"][model]["rows"]
        cells = [
            {"text": _figure(rows[n]["value"], rows[n]["unit"]), "range": _range(rows[n]), "best": model in best[n]}
            for n in columns
        ]
        table.append({"name": model, "cells": cells, "published": False, "mark": _open(told["models"][model]["refused"])})
    if isinstance(told["published"], list):
        for row in told["published"]:
            cells = [
                {"text": _figure(row["numbers"].get(n), results.preset.row(n).unit), "range": "", "best": False}
                for n in columns
            ]
            table.append({"name": row["method"], "cells": cells, "published": True, "mark": row["mark"]})
    return table


def _open(share: float) -> str:
    return f"left {100 * share:.2g} % of the pixels open" if share > 0 else ""


def _range(row: Mapping[str, Any]) -> str:
    if row["low"] is None or isinstance(row["low"], str):
        return ""
    return f"{_figure(row['low'], row['unit'])} … {_figure(row['high'], row['unit'])}"


def _best(results: Results, models: Sequence[str], name: str) -> set[str]:
    better = results.preset.row(name).better
    known = {m: v for m in models if isinstance(v := results.told["models"][m]["rows"][name]["value"], (int, float))}
    if len(known) < 2 or better == "neither":
        return set()
    edge = (max if better == "higher" else min)(known.values())
    return {m for m, v in known.items() if v == edge}


def _rows(results: Results, models: Sequence[str]) -> list[dict[str, Any]]:
    """Every row of the preset with all models: what it is, where, how averaged."""
    table = []
    for row in results.preset.rows:
        each = [results.told["models"][m]["rows"][row.name] for m in models]
        table.append({
            "name": row.name, "unit": row.unit, "area": row.area.replace("_", " "), "against": row.against,
            "how": MEANS.get(row.pooled, f"batches of {row.pooled}"),
            "cells": [_figure(e["value"], row.unit) for e in each], "ranges": [_range(e) for e in each],
            "count": max((e["count"] for e in each), default=0),
        })  # fmt: skip
    return table


def _over_groups(results: Results, models: Sequence[str], kind: str, along: str) -> list[str]:
    """Charts of the first headline rows over groups of images: bins of cover, or variants of a protocol."""
    found = []
    groups = list(results.told["models"][models[0]][kind]) if models else []
    for name in _columns(results)[:CURVES] if groups else []:
        series = {m: [_plain(results.told["models"][m][kind].get(g, {}).get(name)) for g in groups] for m in models}
        row = results.preset.row(name)
        up = f"{name} [{row.unit}]" if row.unit else name
        found.append(charts.lines(series, [g.replace(" %", "") for g in groups], up=up, along=along))
    return found


def _varied(told: Mapping[str, Any]) -> str:
    return told["protocol"]["about"] if told["protocol"] else ""


def _manifold(told: Mapping[str, Any], models: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Precision, recall and F1 of every model, and of every variant; nothing where no feature network was given."""
    if told["features"] is None:
        return []
    found = []
    for model in models:
        own = told["models"][model]
        sets = {f"{model}, {name}": rows for name, rows in own["by_variant"].items()} or {model: own["manifold"]}
        found += [(name, [_figure(rows.get(key)) for key in ("precision", "recall", "f1")]) for name, rows in sets.items()]
    return found


def _plain(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _over_bands(results: Results, models: Sequence[str]) -> list[str]:
    """Bars per band: normalised RMSE (Meraner 2020 Fig. 11) and RMSE."""
    found = []
    names = list(results.told["bands"])
    kinds = (("nRMSE of the band's range, %", ("nrmse",), 100.0), ("RMSE, reflectance", ("all", "rmse"), 1.0),
             ("bias, reflectance", ("all", "bias"), 1.0))  # fmt: skip
    for up, path, factor in kinds:
        series: dict[str, list[float | None]] = {}
        for model in models:
            at: Any = results.told["models"][model]["bands"]
            for key in path:
                at = at.get(key) if isinstance(at, Mapping) else None
            if isinstance(at, list):
                series[model] = [None if v is None else factor * v for v in at]
        if series:
            found.append(charts.bars(series, [n.removeprefix("B") for n in names], up=up, along="band"))
    return found


def _calibration(told: Mapping[str, Any], models: Sequence[str]) -> list[str]:
    """Reliability and sparsification of the models that state a sigma: on hidden pixels, where there are any."""
    found = {m: told["models"][m]["calibration"] for m in models}
    known = {m: c.get("hidden", c["all"]) for m, c in found.items() if "all" in c}
    if not known:
        return []
    reliability = charts.curves(
        {m: (c["stated"], c["found"]) for m, c in known.items()}, up="error found (RMSE)", along="sigma stated", diagonal=True
    )
    series: dict[str, tuple[Any, Any]] = {}
    for model, c in known.items():
        series[model] = (c["removed"], c["by_sigma"])
        series[f"{model}, oracle"] = (c["removed"], c["by_oracle"])
    return [reliability, charts.curves(series, up="RMSE left, over all", along="share removed, by sigma")]


def _paired(results: Results) -> list[dict[str, Any]]:
    """The comparison of models on the summary's rows."""
    columns = set(_columns(results))
    return [
        pair | {
            "difference": _figure(pair["difference"], results.preset.row(pair["row"]).unit),
            "range": _range({"low": pair["low"], "high": pair["high"], "unit": results.preset.row(pair["row"]).unit}),
            "p_said": "–" if pair["p_holm"] is None else f"{pair['p_holm']:.3g}",
            "wins": f"{100 * pair['a_larger']:.0f} %",
        }
        for pair in results.told["paired"] if pair["row"] in columns
    ]  # fmt: skip


def _groups(results: Results, models: Sequence[str]) -> list[dict[str, Any]]:
    """Tables of the headline row by cover, season, region, interval and hard case."""
    name = headline(results)
    unit = results.preset.row(name).unit
    kinds = (("variant", "by_variant"), ("cloud cover", "by_cover"),
             ("season", "by_season"), ("region", "by_region"), ("leak", "by_leak"),
             ("days between input and target", "by_interval"), ("hard cases", "by_case"))  # fmt: skip
    tables = []
    for title, key in kinds:
        keys = [k for k in results.told["models"][models[0]][key] if k] if models else []
        rows = [
            (k, results.told["models"][models[0]][key][k]["images"],
             [_figure(results.told["models"][m][key].get(k, {}).get(name), unit) for m in models])
            for k in keys
        ]  # fmt: skip
        if rows:
            tables.append({"title": title, "row": name, "rows": rows})
    return tables


def _warnings(told: Mapping[str, Any], models: Sequence[str]) -> list[str]:
    found = _other_data(told)
    regions = len(told["regions"])
    if regions < 2:
        found.append("All images come from one region: there are no intervals and no test, and the scores say little.")
    elif regions < 6:
        found.append(f"Only {regions} regions: intervals are rough, and p cannot be below {2 / 2**regions:.3g}.")
    if told["failed"]:
        found.append(
            f"{len(told['failed'])} predictions failed and are not in any number; the first: {told['failed'][0]['why']}"
        )
    counts = {told["models"][m]["images"] for m in models}
    if len(counts) > 1:
        found.append("The models were scored on different numbers of images; compare them in the paired table only.")
    if any(told["models"][m]["by_variant"] for m in models):
        found.append("The protocol shows every image in several variants: numbers that name none are over all of them.")
    if told["published"] == "unavailable":
        found.append("published: unavailable. There is no printed number to compare with.")
    return found


def _other_data(told: Mapping[str, Any]) -> list[str]:
    """A warning where the data are not those that the benchmark asks for: another data set, or regions of other splits."""
    asked, data = told["benchmark"]["asks_for"], told["data"]
    others = set(data.get("by_split") or {}) - {"test"}
    if asked["dataset"] == "any" or (
        data.get("kind") == asked["dataset"] and not (others and asked["split"].startswith("test"))
    ):
        return []
    return [f"The benchmark asks for {asked['dataset']}, {asked['split']}; scored here: {in_words(data)}."]


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    bench, asked = told["benchmark"], told["benchmark"]["asks_for"]
    return [
        ("benchmark", f"{bench['name']}: {bench['source']}"),
        ("the benchmark asks for", f"{asked['dataset']}, {asked['split']}"),
        ("data scored here", _data(told["data"])),
        ("preset", f"{told['preset']}, digest {told['preset_digest']}"),
        ("patch list", f"{told['images']} images, sha256 {told['patch_list_sha256']}"),
        ("regions", ", ".join(told["regions"])),
        ("protocol", _protocol(told)), ("precision, recall, F1", _features(told)),
        ("areas from", ", ".join(f"{name} ({n})" for name, n in told["masks"].items())),
        ("unclouded", f"{told['unclouded']}, NumPy {told['versions']['numpy']}, Python {told['versions']['python']}"),
    ]  # fmt: skip


def _data(data: Mapping[str, Any]) -> str:
    return in_words(data) + (f", in {data['root']}" if data.get("root") else "")


def _protocol(told: Mapping[str, Any]) -> str:
    view = told["protocol"]
    if view is None:
        return "the samples as they are"
    return f"{view['name']}: {view['about']} ({view['source']}), clouds from {view['clouds_from']}"


def _features(told: Mapping[str, Any]) -> str:
    of = told["features"]
    if of is None:
        return f"not computed: {NO_FEATURES}"
    return f"{of['layer']} ({of['features']} numbers) of {of['network']}, sha256 {of['sha256'][:16]}"
