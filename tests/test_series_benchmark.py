"""The protocol of the series benchmark: nothing of the truth or the future reaches a remover; scores are the known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

with pytest.MonkeyPatch.context() as patch:  # only for the imports: benchmarks/training.py would hide tests/training
    patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    import protocol
    import series as benchmark
    import simulated_places


@pytest.fixture(scope="module")
def place():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated_places, "SIDE", 36)
        patch.setattr(simulated_places, "DATES", 9)
        yield protocol.simulated("sim-temperate")


@pytest.fixture(scope="module")
def cases(place):
    return list(protocol.cases(place, full=True))


def test_a_case_hides_its_share_and_takes_the_hole_away(place, cases):
    assert len(cases) == len(protocol.target_dates(place)) * len(protocol.COVERS) * len(place.holes)
    for case in cases:
        low, high = protocol.COVERS[case.cover]
        assert low - 0.15 <= case.fraction <= high + 0.2  # the masks are one pixel wider than the drawn cloud
        assert np.array_equal(case.sample.hidden(), case.scored)
        away = np.abs((case.sample.s2_dates - case.sample.target_date).astype(int))
        assert (away == 0).sum() == 1 and (away[away > 0] >= case.hole / 2).all()


def test_the_truth_is_not_in_the_sample(place, cases):
    """Under the cloud the sample holds the cloud: nowhere the ground that is scored."""
    for case in cases:
        seen = case.sample.s2[case.sample.target_index]
        assert np.abs(seen - case.truth)[:, case.scored].mean() > 0.02


def test_past_only_knows_nothing_later(cases):
    for case in map(protocol.past_only, cases):
        sample = case.sample
        assert sample.s2_dates[-1] == sample.target_date and sample.target_index == len(sample.s2_dates) - 1
        assert len(sample.s2) == len(sample.cloud) == len(sample.s2_dates)
        assert (sample.s1_dates <= sample.target_date).all() and len(sample.s1) == len(sample.s1_orbits) == len(sample.s1_dates)


def test_scores_of_a_known_error(cases):
    case = cases[0]
    guess, sigma = case.truth + np.float32(0.02), np.full_like(case.truth, 0.02 / 1.2)
    row = protocol.score(case, guess, sigma)
    assert row["psnr"] == pytest.approx(-20 * np.log10(0.02), abs=1e-3) and row["mae"] == pytest.approx(0.02, abs=1e-6)
    assert (row["cov50"], row["cov80"], row["cov90"], row["cov95"]) == (0, 1, 1, 1)  # 1.2 sigma: outside 50 %, inside 80 %
    assert row["width_mae"] == pytest.approx(2 * 1.6449 / 1.2, rel=1e-3)
    outside = np.where(case.scored, guess, np.float32(9))
    assert protocol.score(case, outside, sigma)["mae"] == row["mae"]


def test_leads_by_hole_are_paired_means():
    rows = [
        {"place": "p", "cover": 0, "hole": 30, "method": m, "psnr": v}
        for m, values in (("a", (30.0, 33.0)), ("b", (29.0, 30.0)))
        for v in values
    ]
    assert benchmark.by_hole(rows, ["a", "b"]).splitlines()[-1].split()[-2:] == ["2", "+2.00"]


def test_unknown_places_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="unknown places nowhere; there are T1"):
        list(protocol.places(tmp_path, ["nowhere"]))
