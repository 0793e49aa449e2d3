"""The report: one HTML file with a before/after slider, source and sigma layers, spectra, and what was done. Nothing external.

Every text goes through the template's escaping: ids, band names and tags come from files and may be hostile.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import BY_NAME
from unclouded.products.legend import SOURCE_COLOURS, SOURCE_NAMES
from unclouded.products.preview import (
    HEAT,
    Look,
    composite,
    percent,
    shares,
    sigma_top,
)
from unclouded.sample import HIDING, Cover, Place, Source

if TYPE_CHECKING:
    from jinja2 import Template

GROUND = (228, 230, 228)  # under pixels without data, where the format has no transparency
SMALL = 700  # pixels: pictures up to this side are kept lossless
PLOT = (46, 16, 620, 260)  # left, top, right, bottom of the chart in SVG units
LABEL = 14.0  # SVG units that a slanted band name needs
NANOMETRES = (400.0, 2300.0)
HIDDEN = tuple(code for code in Cover if HIDING[code])
SEEN = (Cover.CLEAR, Cover.SNOW)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the report tells: the place, the date, the small pictures, and the facts of the manifest."""

    place: Place
    date: str
    look: Look
    facts: dict[str, Any]


class Line(NamedTuple):
    """One mean spectrum in the chart: its name, CSS class and points in SVG units."""

    name: str
    style: str
    points: tuple[tuple[float, float], ...]

    @property
    def path(self) -> str:
        """The points of an SVG polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


class Chart(NamedTuple):
    """Mean spectra before and after, with the ticks of both axes."""

    lines: tuple[Line, ...]
    across: tuple[tuple[float, str], ...]  # x and band name
    up: tuple[tuple[float, str], ...]  # y and reflectance


def render(report: Report) -> str:
    """The report as one HTML text. Reads nothing, writes nothing."""
    look, facts = report.look, report.facts
    before, after, source, sigma = look.pictures
    height, width = look.source.shape
    return _template().render(
        id=facts["id"], place=report.place.id, date=report.date, level=report.place.level, version=facts["unclouded"],
        created=facts["created"], width=width, height=height, pixelated=max(width, height) <= SMALL, step=look.step,
        shown=" ".join(dict.fromkeys(look.bands[b] for b in composite(look.bands))),
        before=data_uri(before, photo=True), after=data_uri(after, photo=True),
        source=data_uri(source), sigma=data_uri(sigma),
        legend=[(SOURCE_NAMES[s], _css(SOURCE_COLOURS[s]), percent(share), 100 * share) for s, share in _shares(facts, look)],
        heat=", ".join(_css(rgb) for rgb in HEAT), sigma_top=f"{sigma_top(look):.2f}",
        headline=headline(facts), chart=chart(look),
        probe=probe_rows(facts.get("probe"), look.bands), about=facts.get("probe") or {},
        options=list(flat(_options(facts))), warnings=_warnings(facts), decisions=list(flat(_decisions(facts))),
        rasters=facts["rasters"], digest=facts["digest"],
    )  # fmt: skip


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    text = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(text)


def data_uri(picture: NDArray[np.uint8], *, photo: bool = False) -> str:
    """(h, w, 4) RGBA bytes -> a data URI: PNG, or JPEG on a plain ground for large photographs."""
    from PIL import Image

    image, out = Image.fromarray(picture, "RGBA"), io.BytesIO()
    if photo and max(image.size) > SMALL:
        ground = Image.new("RGB", image.size, GROUND)
        ground.paste(image, mask=image.getchannel("A"))
        ground.save(out, "JPEG", quality=90, subsampling=0)
        return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _css(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _shares(facts: dict[str, Any], look: Look) -> list[tuple[Source, float]]:
    """The exact shares of the manifest; those of the small picture only order them."""
    held = max(1, sum(n for name, n in facts["pixels"].items() if name != "nodata"))
    found = [(Source[name.upper()], n / held) for name, n in facts["pixels"].items() if name != "nodata" and n]
    return sorted(found, key=lambda pair: -pair[1]) or shares(look)


def headline(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The three or four numbers a reader wants first."""
    pixels = facts["pixels"]
    held = max(1, sum(n for name, n in pixels.items() if name != "nodata"))
    rebuilt = held - pixels["observed"] - pixels["refused"] if sum(pixels.values()) > pixels["nodata"] else 0
    told = [("observed, kept bit for bit", percent(pixels["observed"] / held)), ("rebuilt", percent(rebuilt / held))]
    if pixels["refused"]:
        told.append(("left hidden", percent(pixels["refused"] / held)))
    probe = facts.get("probe") or {}
    if probe.get("rmse"):
        told.append(("measured error (RMSE, reflectance)", f"{float(np.mean(probe['rmse'])):.4f}"))
    if probe.get("coverage"):
        told.append(("coverage of the 90 % interval", percent(float(np.mean(probe["coverage"])))))
    return told


def chart(look: Look) -> Chart | None:
    """Mean spectra: observed ground, and the hidden pixels before and after. None where nothing was hidden."""
    seen = look.spectra(SEEN)[1]
    before, after = look.spectra(HIDDEN)
    if not np.isfinite(after).any():
        return None
    known = np.concatenate([v[np.isfinite(v)] for v in (seen, before, after)])
    tick = _tick(max(0.05, float(known.max())))
    top = tick * int(np.ceil(max(0.05, float(known.max())) / tick))
    ticks = [k * tick for k in range(round(top / tick) + 1)]
    lines = (
        ("observed ground", "seen", seen),
        ("hidden pixels, as delivered", "before", before),
        ("hidden pixels, rebuilt", "after", after),
    )
    return Chart(
        tuple(Line(name, style, _points(values, look.bands, top)) for name, style, values in lines),
        _labels(look.bands),
        tuple((_y(value, top), f"{value:.2f}") for value in ticks),
    )


def _labels(bands: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """Band names along the axis; a name that would cover its left neighbour is left out."""
    kept: list[tuple[float, str]] = []
    for x, band in sorted((_x(band), band) for band in bands):
        if not kept or x - kept[-1][0] >= LABEL:
            kept.append((x, band))
    return tuple(kept)


def _tick(top: float) -> float:
    """A round step that gives three to six ticks."""
    return next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, top) if top / step <= 6)


def _points(values: NDArray[np.float64], bands: Sequence[str], top: float) -> tuple[tuple[float, float], ...]:
    order = sorted(range(len(bands)), key=lambda b: BY_NAME[bands[b]].nanometres)
    return tuple((_x(bands[b]), _y(float(values[b]), top)) for b in order if np.isfinite(values[b]))


def _x(band: str) -> float:
    """Wavelengths on a logarithmic axis: ten of the bands lie below 1 micrometre."""
    low, high = np.log(NANOMETRES)
    return PLOT[0] + (PLOT[2] - PLOT[0]) * float((np.log(BY_NAME[band].nanometres) - low) / (high - low))


def _y(value: float, top: float) -> float:
    return PLOT[3] - (PLOT[3] - PLOT[1]) * max(0.0, value) / top


def probe_rows(probe: dict[str, Any] | None, bands: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Per band: RMSE, MAE, bias, coverage and width of the 90 % interval; '–' where the probe has no number."""
    if not probe or not probe.get("rmse"):
        return []
    names = ("rmse", "mae", "bias", "coverage", "interval_width")

    def cell(name: str, n: int) -> str:
        values = probe.get(name)
        if not values or len(values) != len(bands) or values[n] is None:
            return "–"
        return percent(values[n]) if name == "coverage" else f"{values[n]:.4f}"

    return [(band, [cell(name, n) for name in names]) for n, band in enumerate(bands)]


def _options(facts: dict[str, Any]) -> dict[str, Any]:
    own = {"id", "date", "unclouded", "created", "job", "job_sha256", "rasters", "digest", "pixels", "probe", "decisions"}
    job = {key: value for key, value in facts["job"].items() if key not in ("written_as", "inputs")}
    return job | {key: value for key, value in facts.items() if key not in own and value is not None}


def _decisions(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (facts.get("decisions") or {}).items() if key != "warnings"}


def _warnings(facts: dict[str, Any]) -> list[str]:
    return [str(text) for text in [*(facts.get("warnings") or ()), *((facts.get("decisions") or {}).get("warnings") or ())]]


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON as rows: ('s1 › pairing › 2018-06-13', '2018-06-12')."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flat(item, f"{name} › {key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for n, item in enumerate(value):
            yield from flat(item, f"{name} › {n + 1}")
    else:
        yield name, _said(value)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_said, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == {} else f"{value:g}" if isinstance(value, float) else str(value)
