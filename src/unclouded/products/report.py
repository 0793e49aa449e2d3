"""thin"""

from __future__ import annotations
from dataclasses import dataclass
from typing import Any
from unclouded.products.preview import Look
from unclouded.sample import Place


@dataclass(frozen=True, kw_only=True)
class Report:
    """x"""

    place: Place
    date: str
    look: Look
    facts: dict[str, Any]


def render(report: Report) -> str:
    """x"""
    return "<html></html>"
