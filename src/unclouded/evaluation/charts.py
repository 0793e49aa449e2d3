"""Small charts as inline SVG: lines over named or numbered positions, and grouped bars. No script, no file, no font."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b88700", "#4aa3d6", "#7a5195", "#6b7178")  # told apart by everyone
WIDTH, HEIGHT = 520, 270
LEFT, TOP, RIGHT, BOTTOM = 66, 14, 508, 220
Numbers = Sequence[float | None]


class Axis(NamedTuple):
    """A linear axis with round ticks."""

    low: float
    high: float
    step: float

    @staticmethod
    def over(values: Sequence[float], *, zero: bool = False) -> Axis:
        """Around the finite values, from 0 if asked; 0 to 1 where there is none."""
        known = [v for v in values if math.isfinite(v)]
        if not known:
            return Axis(0, 1, 0.25)
        low, high = min(known), max(known)
        if zero:
            low = min(0.0, low)
        if high - low < 1e-12:
            low, high = low - 0.5 * max(abs(low), 0.01), high + 0.5 * max(abs(high), 0.01)
        step = _round_step((high - low) / 4)
        return Axis(step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9), step)

    @property
    def ticks(self) -> list[float]:
        """From the lower end to the upper."""
        return [self.low + k * self.step for k in range(round((self.high - self.low) / self.step) + 1)]

    def at(self, value: float, start: float, end: float) -> float:
        """Where a value lies between two ends of the drawing."""
        return start + (end - start) * (value - self.low) / (self.high - self.low)


def _round_step(about: float) -> float:
    power = 10.0 ** math.floor(math.log10(about))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= about * 0.999)


def _said(value: float) -> str:
    return f"{value:.4g}"


def _finite(series: Mapping[str, Numbers]) -> list[float]:
    return [v for values in series.values() for v in values if v is not None and math.isfinite(v)]


def lines(
    series: Mapping[str, Numbers], labels: Sequence[str], *, up: str, along: str = "", zero: bool = False, turned: bool = False
) -> str:
    """One line per series over equal steps with labels. Gaps where a number is missing. `up`, `along`: names of the axes."""
    axis = Axis.over(_finite(series), zero=zero)
    xs = [_slot(k, len(labels)) for k in range(len(labels))]
    drawn = [_path(values, xs, axis, COLOURS[n % len(COLOURS)], n) for n, values in enumerate(series.values())]
    return _framed(axis, up, along, _labels(xs, labels, turned), drawn, list(series))


def curves(
    series: Mapping[str, tuple[Numbers, Numbers]], *, up: str, along: str, diagonal: bool = False, zero: bool = True
) -> str:
    """One curve per series over numbered positions (xs, ys). `diagonal`: also the line where both are equal."""
    across = Axis.over(_finite({name: xs for name, (xs, _) in series.items()}), zero=zero)
    axis = Axis.over(_finite({name: ys for name, (_, ys) in series.items()}), zero=zero)
    if diagonal:
        low, high = min(axis.low, across.low), max(axis.high, across.high)
        axis = across = Axis.over([low, high], zero=zero)
    ticks = [(across.at(t, LEFT, RIGHT), _said(t)) for t in across.ticks]
    drawn = []
    if diagonal:
        drawn.append(f'<line class="equal" stroke-dasharray="4 4" x1="{LEFT}" y1="{BOTTOM}" x2="{RIGHT}" y2="{TOP}"/>')
    for n, (xs, ys) in enumerate(series.values()):
        places = [across.at(x, LEFT, RIGHT) if x is not None else math.nan for x in xs]
        drawn.append(_path(ys, places, axis, COLOURS[n % len(COLOURS)], n))
    marks = "".join(f'<text x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{escape(t)}</text>' for x, t in ticks)
    return _framed(axis, up, along, marks, drawn, list(series))


def bars(series: Mapping[str, Numbers], labels: Sequence[str], *, up: str, along: str = "") -> str:
    """Groups of bars, one group per label, one bar per series. Bars far beyond all others are cut, their value written on."""
    known = _finite(series)
    most = _most(known)
    axis = Axis.over([min(v, most) for v in known], zero=True)
    xs = [_slot(k, len(labels)) for k in range(len(labels))]
    room = (RIGHT - LEFT) / max(1, len(labels)) * 0.8
    wide = room / max(1, len(series))
    floor = axis.at(max(0.0, axis.low), BOTTOM, TOP)
    drawn = []
    for n, (name, values) in enumerate(series.items()):
        for x, value, label in zip(xs, values, labels, strict=True):
            if value is not None and math.isfinite(value):
                top = axis.at(min(value, axis.high), BOTTOM, TOP)
                left = x - room / 2 + n * wide
                if value > axis.high:
                    drawn.append(f'<text x="{left + wide / 2:.1f}" y="{TOP - 3}" text-anchor="middle">{_said(value)}</text>')
                drawn.append(
                    f'<rect x="{left:.1f}" y="{min(top, floor):.1f}" width="{max(wide - 1, 1):.1f}" '
                    f'height="{abs(floor - top):.1f}" fill="{COLOURS[n % len(COLOURS)]}">'
                    f"<title>{escape(name)}, {escape(label)}: {_said(value)}</title></rect>"
                )
    return _framed(axis, up, along, _labels(xs, labels, False), drawn, list(series))


def _most(values: Sequence[float]) -> float:
    """Where to cut bars: nowhere, or beyond the rest if the largest tenth is over five times as large."""
    ordered = sorted(values)
    rest = ordered[: max(1, math.ceil(0.9 * len(ordered)))]
    return rest[-1] * 1.3 if ordered and ordered[-1] > 5 * max(rest[-1], 1e-12) > 0 else math.inf


def _slot(k: int, count: int) -> float:
    return LEFT + (RIGHT - LEFT) * (k + 0.5) / max(1, count)


def _path(values: Numbers, xs: Sequence[float], axis: Axis, colour: str, n: int) -> str:
    points = [
        (x, axis.at(v, BOTTOM, TOP)) if v is not None and math.isfinite(v) and math.isfinite(x) else None
        for x, v in zip(xs, values, strict=True)
    ]
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    dash = ("", ' stroke-dasharray="7 3"', ' stroke-dasharray="2 3"')[n % 3]
    told = [
        f'<polyline stroke="{colour}"{dash} points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>'
        for run in runs
        if len(run) > 1
    ]
    dots = [f'<circle cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="2.6" fill="{colour}"/>' for p in points if p is not None]
    return "".join(told + dots)


def _labels(xs: Sequence[float], labels: Sequence[str], turned: bool) -> str:
    if turned:
        return "".join(
            f'<text transform="translate({x:.1f} {BOTTOM + 12}) rotate(-30)" text-anchor="end">{escape(label)}</text>'
            for x, label in zip(xs, labels, strict=True)
        )
    return "".join(
        f'<text x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{escape(label)}</text>'
        for x, label in zip(xs, labels, strict=True)
    )


def _framed(axis: Axis, up: str, along: str, labels: str, drawn: Sequence[str], names: Sequence[str]) -> str:
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" y1="{axis.at(t, BOTTOM, TOP):.1f}" x2="{RIGHT}" y2="{axis.at(t, BOTTOM, TOP):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{axis.at(t, BOTTOM, TOP) + 4:.1f}" text-anchor="end">{_said(t)}</text>'
        for t in axis.ticks
    )
    name = f'<text transform="translate(12 {(TOP + BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    below = f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(along)}</text>'
    keys = "".join(
        f'<li style="color:{COLOURS[n % len(COLOURS)]}"><span>{escape(text)}</span></li>' for n, text in enumerate(names)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(up)} {escape(along)}">{grid}{name}{below}{labels}'
        f'{"".join(drawn)}</svg><ul class="keys">{keys}</ul>'
    )
