"""Covers are remembered as long as the files they were measured on stay as they are."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from unclouded.datasets.index import Measure, stamps
from unclouded.datasets.offline import write_sen12mscr, write_sen12mscrts
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.split import Roi
from unclouded.errors import InputMissing

BRIGHT = Measure("bright", lambda s: (s.s2[:, 3] > 0.25).astype(np.float32))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))


def test_a_replaced_image_is_measured_anew(tmp_path: Path) -> None:
    root = tmp_path / "root"
    patch = write_sen12mscr(root, [Roi("ROIs1158_spring", 1)], patches=9, size=24)[1]

    def cover() -> float:
        data = SEN12MSCR(root, split=None, measure=BRIGHT)
        return data.cover(data.patches.index(patch))

    data = SEN12MSCR(root, split=None)
    sample = data[data.patches.index(patch)]
    cloudy, clear = (float((image[3] > 0.25).mean()) for image in (sample.s2[0], sample.target))
    assert cover() == pytest.approx(cloudy) and abs(cloudy - clear) > 0.05
    path = root / patch.path("s2_cloudy")
    shutil.copyfile(root / patch.path("s2"), path)
    assert cover() == pytest.approx(clear)
    known = path.stat()
    SEN12MSCR(root, split=None, measure=BRIGHT).index.lines.add(  # the same name and size: only the time tells
        {"measure": "bright", "item": str(patch), "of": [[known.st_size, known.st_mtime_ns]], "cover": [0.123]}
    )
    assert cover() == 0.123
    os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns + 1000))
    assert cover() == pytest.approx(clear)
    path.unlink()
    with pytest.raises(InputMissing, match="is not there"):
        data.index.cover(str(patch), BRIGHT, lambda: data._read(patch), [patch.path("s2_cloudy")])


def test_one_replaced_date_measures_its_series_anew(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_sen12mscrts(root, [Roi("ROIs1868", 100)], dates=4, size=24)
    data = SEN12MSCRTS(root, split=None, measure=BRIGHT)
    before = data.covers(0)
    low, high = int(np.argmin(before)), int(np.argmax(before))
    paths = [root / shot.path for shot in data.series[0].s2]
    shutil.copyfile(paths[low], paths[high])
    after = SEN12MSCRTS(root, split=None, measure=BRIGHT).covers(0)
    assert before[low] < before[high] and after == pytest.approx([*before[:high], before[low], *before[high + 1 :]])


def test_the_cache_says_what_was_measured_and_lines_without_that_count_for_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (patch,) = write_sen12mscr(root, [Roi("ROIs1158_spring", 1)], patches=1, size=24)
    cover = SEN12MSCR(root, split=None, measure=BRIGHT).cover(0)
    (cache,) = (tmp_path / "cache" / "index").iterdir()
    line = json.loads(cache.read_text().splitlines()[-1])
    told = (root / patch.path("s2_cloudy")).stat()
    assert line == {"measure": "bright", "item": str(patch), "of": [[told.st_size, told.st_mtime_ns]], "cover": [cover]}
    with cache.open("a") as file:  # as an earlier version wrote them
        file.write(json.dumps({"measure": "bright", "item": str(patch), "cover": [0.123]}) + "\n")
    assert SEN12MSCR(root, split=None, measure=BRIGHT).cover(0) == cover
    assert stamps(root, ["nowhere"]) == [[-1, -1]]
