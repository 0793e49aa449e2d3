"""Statistics of a data set: known covers in known bins, months and gaps."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclouded.datasets.index import Measure
from unclouded.datasets.offline import write_sen12mscr, write_sen12mscrts
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.split import Roi
from unclouded.datasets.stats import Stats, draw_picture, of_series, of_triplets, write_csv
from unclouded.errors import UsageError


def rows_hidden(share_of: dict[str, float]) -> Measure:
    """A measure that hides a known share of every image, by its place."""

    def cloud(sample):
        out = np.zeros(sample.s2_valid.shape, np.float32)
        for t in range(len(out)):
            out[t, : round(share_of.get(sample.place.id, 0.1 * t) * out.shape[1])] = 1
        return out

    return Measure("known", cloud)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))


def test_covers_months_and_gaps_are_counted(tmp_path: Path) -> None:
    write_sen12mscr(tmp_path / "mono", [Roi("ROIs1158_spring", 1), Roi("ROIs1970_fall", 1)], patches=2, size=20)
    known = {
        "ROIs1158_spring/1/p1": 0.0, "ROIs1158_spring/1/p2": 0.55, "ROIs1970_fall/1/p1": 1.0, "ROIs1970_fall/1/p2": 0.95
    }  # fmt: skip
    mono = of_triplets(SEN12MSCR(tmp_path / "mono", measure=rows_hidden(known)), "train")
    assert mono.covers.tolist() == pytest.approx(list(known.values()))
    assert mono.histogram().tolist() == [0.25, 0, 0, 0, 0, 0.25, 0, 0, 0, 0.5]
    month = mono.by_month()
    assert month[3] == pytest.approx(0.275) and month[9] == pytest.approx(0.975) and np.isnan(np.delete(month, [3, 9])).all()
    write_sen12mscrts(tmp_path / "multi", [Roi("ROIs2017", 146)], dates=5, size=20)
    multi = of_series(SEN12MSCRTS(tmp_path / "multi", measure=rows_hidden({})), "train")
    assert multi.covers.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert multi.months.tolist() == [1, 3, 5, 8, 10] and multi.gaps.tolist() == [-4] * 5
    write_csv([mono, multi], tmp_path / "stats.csv")
    rows = list(csv.DictReader((tmp_path / "stats.csv").read_text().splitlines()))
    assert rows[0]["images"] == "4" and float(rows[0]["mean_cover"]) == pytest.approx(0.625) and rows[0]["month_02"] == ""
    assert float(rows[1]["gap_median_days"]) == 4 and rows[0]["gap_max_days"] == "" and rows[1]["cover_0.3_0.4"] == "0.2000"
    draw_picture([mono, multi], tmp_path / "stats.png")
    with Image.open(tmp_path / "stats.png") as image:
        assert image.size[0] > 1000
    with pytest.raises(UsageError, match="measure"):
        of_triplets(SEN12MSCR(tmp_path / "mono"), "train")


def test_a_cover_of_one_belongs_to_the_last_bin() -> None:
    stats = Stats("x", "m", np.array([1.0, 0.9]), np.array([1, 1]), np.zeros(0, np.int64))
    assert stats.histogram()[-1] == 1
