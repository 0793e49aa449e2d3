"""Memory budgets: larger ones give larger blocks, too small ones are refused with what would do."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from unclouded import options
from unclouded.budget import MIB, SIDES, afford, copying, peak
from unclouded.errors import BudgetTooSmall, UsageError
from unclouded.models.needs import Needs
from unclouded.sample import Place, as_days
from unclouded.scenes.scene import Scene

NEEDS = Needs(halo=98, sar="optional")


def tile(size: int = 10980, dates: int = 12) -> Scene:
    days = as_days([np.datetime64("2020-01-01") + 5 * n for n in range(dates)])
    bands = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
    place = Place(id="tile", bands=bands, level="L2A")
    return Scene(place=place, shape=(size, size), dates=days, s1_dates=days, source=None)  # type: ignore[arg-type]


def test_blocks_grow_with_the_budget_and_fit_into_it():
    ways = [afford(tile(), NEEDS, memory=gib * 1024 * MIB, workers=2) for gib in (4, 5, 6, 12)]
    assert [w.block for w in ways] == sorted(w.block for w in ways) and ways[-1].block == 768
    assert all(w.peak <= gib * 1024 * MIB for w, gib in zip(ways, (4, 5, 6, 12), strict=True))
    assert len({w.block for w in ways}) > 1
    assert all(side % 6 == 0 for side in SIDES)


def test_without_a_budget_blocks_have_the_usual_side():
    assert afford(tile(), NEEDS).block == 768 and afford(tile(), NEEDS).workers == 1
    assert afford(tile(100), NEEDS, workers=None).workers == 1  # one block: another process does not pay


def test_fewer_processes_before_giving_up_where_their_number_is_free(monkeypatch):
    monkeypatch.setattr("unclouded.budget._cores", lambda: 8)
    assert afford(tile(), NEEDS, workers=None).workers == 8
    few = afford(tile(), NEEDS, memory=4096 * MIB, workers=None)
    assert 1 <= few.workers < 8 and few.peak <= 4096 * MIB


def test_a_budget_that_is_too_small_names_one_that_does():
    with pytest.raises(BudgetTooSmall) as caught:
        afford(tile(), NEEDS, memory=1024 * MIB, workers=4)
    assert caught.value.code == 21
    enough, alone = (int(n) for n in re.findall(r"(\d+) ?MiB", caught.value.do))
    assert afford(tile(), NEEDS, memory=enough * MIB, workers=4).workers == 4
    assert alone < enough and afford(tile(), NEEDS, memory=alone * MIB, workers=1).workers == 1


def test_the_peak_does_not_depend_on_the_size_of_the_tile_beyond_its_class_maps():
    more = peak(tile(10980), NEEDS, 768, 2) - peak(tile(4096), NEEDS, 768, 2)
    assert more == 10980**2 - 4096**2


def test_a_run_that_copies_holds_no_series_and_the_classes_of_other_dates_only_where_these_are_decided():
    for workers in (1, 2, 4):
        near, everywhere = (copying(tile(), replace(NEEDS, masks=masks), workers) for masks in ("near", "everywhere"))
        assert everywhere - near == 11 * 10980**2
        assert near < everywhere < peak(tile(), NEEDS, 768, workers)
    assert copying(tile(), NEEDS, 2) - copying(tile(4096), NEEDS, 2) == 10980**2 - 4096**2
    assert 2.2 < copying(tile(), NEEDS, 2) / 2**30 < 2.5  # 2.4 GiB measured


def test_what_a_network_holds_counts_in_every_process_that_computes():
    def more(change, workers):
        network = Needs(tile=256, halo=32, held=2000 * MIB, one_process=change.get("one_process", False))
        return (peak(tile(), replace(network, **change), 768, workers) - peak(tile(), network, 768, workers)) / MIB

    assert [more({"held": 3000 * MIB}, workers) for workers in (1, 2, 5)] == [1000, 2000, 5000]
    assert [more({"held_per_date": 10 * MIB}, workers) for workers in (1, 2)] == [12 * 10, 2 * 12 * 10]
    assert [more({"held": 9000 * MIB, "one_process": True}, workers) for workers in (1, 2)] == [7000, 7000]


def test_what_a_network_holds_takes_processes_or_is_refused(monkeypatch):
    monkeypatch.setattr("unclouded.budget._cores", lambda: 8)
    plain, network = Needs(tile=256, halo=32), Needs(tile=256, halo=32, held=2000 * MIB)
    few, many = (afford(tile(), needs, memory=8192 * MIB, workers=None).workers for needs in (network, plain))
    assert 1 <= few < many
    enough = peak(tile(), plain, 768, 2)
    assert afford(tile(), plain, memory=enough, workers=2).block == 768
    with pytest.raises(BudgetTooSmall, match="processes: 2"):
        afford(tile(), network, memory=enough, workers=2)


@pytest.mark.parametrize(("text", "size"), [("4GiB", 4 << 30), ("4G", 4 << 30), ("512 MiB", 512 << 20), ("2GB", 2 * 10**9)])
def test_sizes(text, size):
    assert options.size(text) == size


@pytest.mark.parametrize("text", ["", "four", "-1GiB", "0", "4 GiBi", "1..2M"])
def test_no_sizes(text):
    with pytest.raises(UsageError, match="--memory"):
        options.size(text)
