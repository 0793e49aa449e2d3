"""The table of networks: sizes at the published configuration, and the page made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unclouded.errors import InputUnsupported
from unclouded.models import zoo, zoo_page
from unclouded.models.published import KNOWN, PUBLISHED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "model-zoo.md"

PUBLISHED_SIZES = {  # millions of parameters, GMAC per 256 x 256 patch
    "dsen2cr": (18.95, 1241),
    "glfcr-as-published": (14.83, 250),
    "spagan": (0.22, None),  # 17 as published counts the convolutions whose result is dropped
    "pix2pix": (54.45, None),
}


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_published_sizes(name):
    millions, gmac = PUBLISHED_SIZES[name]
    size = zoo.size(name)
    assert round(size.parameters / 1e6, 2) == millions
    assert gmac is None or round(size.gmac) == gmac


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_what_is_held_holds_the_weights(name):
    row = zoo.network(name)
    assert row.held + 3 * row.held_per_date > zoo.size(name).parameters * 4 / 2**20


def test_cost_grows_with_the_area():
    assert zoo.size("dsen2cr", 128).gmac * 4 == pytest.approx(zoo.size("dsen2cr", 256).gmac)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputUnsupported, match="dsen2cr"):
        zoo.network("unet")


def test_every_kind_of_file_becomes_a_network_of_the_table():
    assert {p.model for p in PUBLISHED.values()} | {w.model for w in KNOWN} <= set(zoo.NETWORKS)


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text() == zoo_page.page(), "run: python -m unclouded.models.zoo_page > docs/model-zoo.md"
