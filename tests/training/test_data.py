"""What a step sees is decided by its number; folders of every kind are opened; broken samples are stepped over and named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from unclouded.bands import L1C
from unclouded.datasets.offline import SimulatedTriplets, write_sen12mscr, write_sen12mscrts
from unclouded.datasets.pack import pack
from unclouded.datasets.split import parse_roi
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported
from unclouded.training import samples as room
from unclouded.training.data import SIMULATED, Opened, Steps, open_data, partner
from unclouded.training.recipe import Data
from unclouded.training.samples import Remembered, with_bands, with_cloud, without_date

RGB = ("B04", "B03", "B02")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))


def steps(count=5, batch=2, bands=RGB, **options):
    ranks = {k: options.pop(k) for k in ("rank", "ranks") if k in options}
    plan = Data(kind="triplets", count=count, size=32, **options)
    opened = open_data(plan, SIMULATED, bands=bands, level="L1C", seed=3, split="train")
    return Steps(opened, plan, bands, batch=batch, seed=3, **ranks)


def same(a, b):
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
        for x, y in ((getattr(a.batch, n), getattr(b.batch, n)) for n in ("s2", "target", "s1", "cloud", "places"))
    )


def test_a_step_is_decided_by_its_number():
    options = {"flips": True, "turns": True, "crop": 16, "clouds": "perlin"}
    one, other = steps(**options), steps(**options)
    forward = [one[n] for n in range(4)]
    assert all(same(other[n], forward[n]) for n in (3, 1, 2, 0))
    assert one.per_epoch == 2 and forward[0].batch.s2.shape == (2, 1, 3, 16, 16)
    assert not same(one[0], one[2])  # another epoch has another order


def test_every_sample_is_seen_once_per_epoch_and_processes_share_a_batch():
    whole = steps(count=6, batch=3)
    names = [name for n in range(2) for name in whole[n].names]
    assert len(set(names)) == 6
    shares = [steps(count=6, batch=3, rank=r, ranks=2)[0].names for r in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(whole[0].names)


def test_a_limit_spreads_evenly():
    limited = steps(count=8, batch=4, limit=4)
    assert limited.per_epoch == 1
    assert sorted(limited[0].names) == sorted(limited.source[i].place.id for i in (0, 2, 4, 6))


def test_unpaired_samples_see_the_truth_of_another_place_always_the_same():
    plan = steps(count=8, batch=8, paired=0.25)
    shown = plan[0]
    assert sum(shown.paired) == 2
    clear = {plan.source[i].place.id: with_bands(plan.source[i], RGB).target for i in range(8)}

    def truths(shown):
        of = {}
        for name, target in zip(shown.names, shown.batch.target.numpy(), strict=True):
            (of[name],) = [other for other, image in clear.items() if np.array_equal(image, target)]
        return of

    own = [name for name, other in truths(shown).items() if name == other]
    assert sorted(own) == sorted(n for n, paired in zip(shown.names, shown.paired, strict=True) if paired)
    assert len(set(truths(shown).values())) >= 6
    assert truths(plan[1]) == truths(shown)


def test_nobody_is_his_own_partner():
    for count in (2, 3, 50):
        partners = [partner(i, count, 7) for i in range(count)]
        assert sorted(partners) == list(range(count)) and all(i != p for i, p in enumerate(partners))


def test_masks_and_bands():
    sample = replace(SimulatedTriplets(count=1, size=32)[0], cloud=None)
    assert with_cloud(sample, "none").cloud is None
    assert (with_cloud(sample, "ones").cloud == 1).all()
    found = with_cloud(sample, "meraner2020").cloud
    assert set(np.unique(found)) <= {0.0, 1.0}
    own = replace(sample, cloud=np.full(sample.s2_valid.shape, 0.25, np.float32))
    assert with_cloud(own, "meraner2020") is own
    soft = with_cloud(sample, "s2cloudless").cloud
    assert soft.min() >= 0 and soft.max() <= 1 and len(np.unique(soft)) > 10
    cut = with_bands(sample, RGB)
    assert np.array_equal(cut.target[0], sample.target[L1C.index("B04")]) and cut.place.bands == RGB
    with pytest.raises(InputUnsupported, match="no band B08"):
        with_bands(cut, ("B08",))


def test_simulated_series_leave_the_target_out_or_keep_it():
    for inside in (False, True):
        plan = Data(kind="series", count=2, size=32, dates=3, inside=inside, cover=(0.2, 0.5))
        sample = open_data(plan, SIMULATED, bands=RGB, level="L1C", seed=0, split="train").source[1]
        assert sample.s2.shape[0] == 3 and sample.target is not None
        assert (sample.target_date in sample.s2_dates) == inside
        assert sample.target_index == (1 if inside else None)


def test_a_date_is_taken_out():
    plan = Data(kind="series", count=1, size=32, dates=4, inside=True)
    sample = open_data(plan, SIMULATED, bands=RGB, level="L1C", seed=0, split="train").source[0]
    assert sample.target_index == 2
    assert without_date(sample, 0).target_index == 1
    assert without_date(sample, 3).target_index == 2
    assert without_date(sample, 2).target_index is None
    assert np.array_equal(without_date(sample, 1).s2, sample.s2[[0, 2, 3]])


def test_training_and_validation_are_other_places():
    plan = Data(kind="triplets", count=4, size=32)
    opened = [open_data(plan, SIMULATED, bands=RGB, level="L1C", seed=0, split=split) for split in ("train", "val")]
    names = [{o.source[i].place.id for i in range(len(o.source))} for o in opened]
    assert not names[0] & names[1] and opened[0].digest != opened[1].digest


def test_folders_of_series(tmp_path):
    rois = [parse_roi("ROIs1868/36"), parse_roi("ROIs1868/17")]  # training, validation
    write_sen12mscrts(tmp_path, rois, dates=5, size=48)
    for inside, dates in ((False, 3), (True, 4)):
        plan = Data(kind="series", dates=dates, inside=inside, mask="tum")
        opened = open_data(plan, str(tmp_path), bands=L1C, level="L1C", seed=0, split="train")
        sample = opened.source[0]
        assert opened.name == "SEN12MS-CR-TS" and len(opened.source) == 1
        assert sample.s2.shape[0] == dates and (sample.target_index is not None) == inside
        if inside:
            assert sample.cloud.mean((1, 2)).argmin() == sample.target_index


def test_folders_of_triplets_and_packs(tmp_path):
    root = tmp_path / "root"
    write_sen12mscr(root, [parse_roi("ROIs1158_spring/1")], patches=2, size=48)
    plan = Data(kind="triplets")
    opened = open_data(plan, str(root), bands=L1C, level="L1C", seed=0, split="train")
    assert (opened.name, len(opened.source)) == ("SEN12MS-CR", 2)
    with pytest.raises(InputMissing):
        open_data(plan, str(root), bands=L1C, level="L1C", seed=0, split="val")
    pack(opened.source, tmp_path / "alone")
    packed = open_data(plan, str(tmp_path / "alone"), bands=L1C, level="L1C", seed=0, split="train")
    assert np.array_equal(packed.source[1].s2, opened.source[1].s2)
    with pytest.raises(InputMissing, match="no validation samples"):
        open_data(plan, str(tmp_path / "alone"), bands=L1C, level="L1C", seed=0, split="val")
    pack(opened.source, tmp_path / "both" / "train", items=[0])
    pack(opened.source, tmp_path / "both" / "val", items=[1])
    for n, split in enumerate(("train", "val")):
        part = open_data(plan, str(tmp_path / "both"), bands=L1C, level="L1C", seed=0, split=split)
        assert np.array_equal(part.source[0].s2, opened.source[n].s2)


def test_folders_of_pairs_hold_out_every_tenth_region(tmp_path):
    draw = np.random.default_rng(0)
    for number in range(1, 11):
        for sensor, shape in (("s1", (32, 32)), ("s2", (32, 32, 3))):
            at = tmp_path / "ROIs1158_spring" / f"{sensor}_{number}"
            at.mkdir(parents=True)
            picture = Image.fromarray(draw.integers(0, 255, shape, dtype=np.uint8))
            picture.save(at / f"ROIs1158_spring_{sensor}_{number}_p1.png")
    plan = Data(kind="clear", clouds="physical")
    parts = [open_data(plan, str(tmp_path), bands=RGB, level="L1C", seed=0, split=split) for split in ("train", "val")]
    assert [len(part.source) for part in parts] == [9, 1]
    shown = Steps(parts[0], plan, RGB, batch=2, seed=0)[0].batch
    assert shown.target is not None and not torch.equal(shown.target, shown.s2[:, 0])


class _Broken:
    def __init__(self, inner, bad):
        self.inner, self.bad = inner, bad

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, i):
        if i in self.bad:
            raise InputCorrupt("damaged")
        return self.inner[i]


def test_a_broken_sample_is_replaced_by_the_next_and_named():
    inner = SimulatedTriplets(count=6, size=32)
    plan = Data(kind="triplets")
    shown = [Steps(Opened(_Broken(inner, {2}), "", "", "", ""), plan, L1C, batch=6, seed=0)[0] for _ in range(2)]
    assert shown[0].skipped == ("2: damaged",) and same(*shown)
    assert sorted(shown[0].names) == sorted([inner[i].place.id for i in (0, 1, 3, 3, 4, 5)])
    with pytest.raises(InputCorrupt):
        Steps(Opened(_Broken(inner, set(range(6))), "", "", "", ""), plan, L1C, batch=1, seed=0)[0]


def test_memory_of_made_samples_is_bounded(monkeypatch):
    one = SimulatedTriplets(count=3, size=32)[0]
    size = sum(v.nbytes for v in vars(one).values() if isinstance(v, np.ndarray))
    monkeypatch.setattr(room, "KEPT_BYTES", int(2.5 * size))
    kept = Remembered(SimulatedTriplets(count=3, size=32))
    assert [kept[i].place.id for i in (0, 1, 2, 1)] == [SimulatedTriplets(count=3, size=32)[i].place.id for i in (0, 1, 2, 1)]
    assert set(kept.kept) == {0, 1}
