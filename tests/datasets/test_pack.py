"""Packs: exact counts, radar to half a hundredth of a dB, resumable, verified."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unclouded.datasets.index import Measure
from unclouded.datasets.offline import SimulatedSeries, SimulatedTriplets, write_sen12mscr, write_sen12mscrts
from unclouded.datasets.pack import Packed, pack
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.split import Roi
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, OutputFailed
from unclouded.sample import Sample


class Listed:
    """Samples in a list, counting what is read."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples, self.read = samples, list[int]()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Sample:
        self.read.append(i)
        return self.samples[i]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    made = [SimulatedTriplets(count=4, size=21)[i] for i in range(4)]
    holes = made[1].s2_valid.copy()
    holes[0, 3:7, 20] = False
    s1_holes, unseen = made[1].s1_valid.copy(), made[1].target_valid.copy()
    s1_holes[0, :, 5], unseen[9] = False, False
    made[1] = replace(made[1], s2_valid=holes, s1_valid=s1_holes, target_valid=unseen)
    exact = [np.rint(s.target * 10_000).astype(np.float32) / np.float32(10_000) for s in made]
    return [replace(s, target=t) for s, t in zip(made, exact, strict=True)]


def test_a_packed_sample_is_the_sample(samples: list[Sample], tmp_path: Path) -> None:
    packed = pack(Listed(samples), tmp_path / "pack")
    assert len(packed) == 4 and packed.verify() == []
    for one, back in zip(samples, packed, strict=False):
        for name in ("s2", "s2_valid", "s2_dates", "s1_valid", "s1_dates", "target", "target_valid"):
            assert np.array_equal(getattr(one, name), getattr(back, name)), name
        assert np.abs(one.s1 - back.s1).max() <= 0.005 + 1e-5
        assert (back.place.id, back.place.bands, back.place.level) == (one.place.id, one.place.bands, one.place.level)
        assert back.place.grid.affine == one.place.grid.affine and back.place.grid.crs == one.place.grid.crs
        assert back.target_date == one.target_date and back.target_index == 0


def test_series_without_target_and_with_one_band_pack_too(tmp_path: Path) -> None:
    source = SimulatedSeries(count=2, size=9, dates=4, bands=("B02",))
    packed = pack(source, tmp_path / "pack")
    assert packed[1].s2.shape == (4, 1, 9, 9) and packed[1].target is None and packed[1].target_date is None
    assert np.array_equal(packed[1].s2, source[1].s2)
    bare = pack(Listed([replace(source[0], s1=None, s1_valid=None, s1_dates=None, s1_orbits=None)]), tmp_path / "bare")
    assert bare[0].s1 is None and set(bare.arrays) == {"s2", "valid"}


def test_a_killed_pack_goes_on_where_it_stopped(samples: list[Sample], tmp_path: Path) -> None:
    whole = pack(Listed(samples), tmp_path / "whole")
    folder = tmp_path / "pack"

    class Killed(Exception):
        pass

    def stop(done: int, of: int) -> None:
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        pack(Listed(samples), folder, progress=stop)
    with pytest.raises(InputMissing, match="no whole pack"):
        Packed(folder)
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"id": "cut sho')
    source = Listed(samples)
    resumed = pack(source, folder)
    assert source.read == [0, 2, 3]  # the first for its shape, then what remained
    assert resumed.samples == whole.samples and resumed.verify() == []
    for name in whole.arrays:
        assert (folder / f"{name}.npy").read_bytes() == (tmp_path / "whole" / f"{name}.npy").read_bytes()


def test_a_subset_is_packed_in_the_order_given(samples: list[Sample], tmp_path: Path) -> None:
    packed = pack(Listed(samples), tmp_path / "pack", items=[3, 1])
    assert np.array_equal(packed[0].s2, samples[3].s2) and np.array_equal(packed[1].s2, samples[1].s2)
    with pytest.raises(OutputFailed, match="another pack"):
        pack(Listed(samples), tmp_path / "pack", items=[1, 3])
    with pytest.raises(InputMissing, match="nothing to pack"):
        pack(Listed(samples), tmp_path / "none", items=[])


def test_another_root_split_or_draw_of_the_same_shape_is_another_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))
    rois = [Roi("ROIs1158_spring", 1), Roi("ROIs1158_spring", 106)]  # training, test
    for n in range(2):
        write_sen12mscr(tmp_path / f"root{n}", rois, patches=1, size=16, seed=n)
    opened = {split: SEN12MSCR(tmp_path / "root0", split=split) for split in ("train", "test")}
    packed = pack(opened["train"], tmp_path / "pack")
    assert pack(opened["train"], tmp_path / "pack").samples == packed.samples
    with pytest.raises(OutputFailed, match="names other samples"):
        pack(opened["test"], tmp_path / "pack")
    with pytest.raises(OutputFailed, match=r"packed from .*root0.*, not from .*root1"):
        pack(SEN12MSCR(tmp_path / "root1"), tmp_path / "pack")
    assert json.loads((tmp_path / "pack" / "pack.json").read_text())["source"]["root"] == str((tmp_path / "root0").resolve())


def test_other_drawn_dates_are_another_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))
    write_sen12mscrts(tmp_path / "root", [Roi("ROIs1868", 100)], dates=5, size=16)
    measure = Measure("reds", lambda s: (s.s2[:, 3] > np.median(s.s2[:, 3])).astype(np.float32))

    def drawn(**options):
        return SEN12MSCRTS(tmp_path / "root", split=None, dates=2, measure=measure, **options)

    pack(drawn(), tmp_path / "pack")
    told = json.loads((tmp_path / "pack" / "journal.jsonl").read_text().splitlines()[0])
    whole, (inputs, target) = drawn(), drawn().drawn(0)
    days = [str(whole.series[0].s2[t].day) for t in (*inputs, target)]
    assert told["told"] == [{"id": "ROIs1868/100/patch_0", "dates": days[:-1], "target": days[-1]}]
    assert (told["source"]["sampler"], told["source"]["cover"], told["source"]["detector"]) == ("corrected", [0.0, 1.0], "reds")
    for options in ({"sampler": "as_published"}, {"cover": (0.0, 0.5)}, {"seed": 1}):
        with pytest.raises(OutputFailed, match="another pack"):
            pack(drawn(**options), tmp_path / "pack")


def test_a_pack_begun_before_contents_were_noted_is_not_gone_on_with(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"format":1,"items":[0],"shape":[]}\n')
    with pytest.raises(OutputFailed, match="earlier version"):
        pack(Listed(samples), tmp_path)


def test_damage_is_found(samples: list[Sample], tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    pack(Listed(samples), folder)
    path = folder / "s1.npy"
    stored = bytearray(path.read_bytes())
    stored[-3] ^= 64
    path.write_bytes(bytes(stored))
    assert Packed(folder).verify() == [samples[3].place.id]
    head = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps({**head, "samples": head["samples"][:3]}))
    with pytest.raises(InputCorrupt, match="disagree"):
        Packed(folder)
    path.write_bytes(bytes(stored[:200]))
    with pytest.raises(InputCorrupt, match="cannot be read"):
        Packed(folder)


def test_what_a_pack_cannot_hold_is_refused(samples: list[Sample], tmp_path: Path) -> None:
    other = SimulatedTriplets(count=1, size=20)[0]
    with pytest.raises(InputUnsupported, match="differs from the first sample"):
        pack(Listed([samples[0], other]), tmp_path / "a")
    below = replace(samples[0], s2=samples[0].s2 - np.float32(1))
    with pytest.raises(InputUnsupported, match="a pack holds"):
        pack(Listed([below]), tmp_path / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed, match="could not be written"):
        pack(Listed(samples), tmp_path / "file")
