"""Which samples a folder or a pack gives a recipe: covers, clear images, series, fitting detectors, what tells other data."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from training.tiny import tiny
from unclouded.bands import L1C
from unclouded.datasets.offline import SimulatedTriplets, write_sen12mscr, write_sen12mscrts
from unclouded.datasets.pack import pack
from unclouded.datasets.patches import describe
from unclouded.datasets.sen12 import SEN12
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.split import parse_roi
from unclouded.errors import InputMissing, InputUnsupported, UsageError
from unclouded.masks import MASKS
from unclouded.roots import measure_of
from unclouded.sample import HIDING, Place
from unclouded.training.data import SIMULATED, Opened, Steps, open_data, open_donors
from unclouded.training.recipe import Data, read_recipe
from unclouded.training.run import train
from unclouded.training.samples import as_clear, detector

RGB = ("B04", "B03", "B02")
TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def triplets(tmp_path_factory):
    root = tmp_path_factory.mktemp("triplets")
    write_sen12mscr(root, [parse_roi("ROIs1158_spring/1")], patches=6, size=32)
    return root


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    root = tmp_path_factory.mktemp("series")
    write_sen12mscrts(root, [parse_roi("ROIs1868/36")], patches=2, dates=6, size=32)
    return root


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two pairs of SEN1-2, of one region."""
    root, draw = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for sensor, shape in (("s1", (32, 32)), ("s2", (32, 32, 3))):
        at = root / "ROIs1158_spring" / f"{sensor}_1"
        at.mkdir(parents=True)
        for n in range(2):
            Image.fromarray(draw.integers(0, 255, shape, dtype=np.uint8)).save(at / f"ROIs1158_spring_{sensor}_1_p{n}.png")
    return root


def opened(plan, root, bands=L1C):
    return open_data(plan, str(root), bands=bands, level="L1C", seed=0, split="train")


def alike(a, b):
    """Two samples of the same content, radar as exact as a pack holds it."""
    for name in ("s2", "s2_valid", "s2_dates", "s1_dates", "target", "target_valid", "target_date", "target_index", "cloud"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert np.abs(a.s1 - b.s1).max() <= 0.0051
    return True


def test_only_samples_of_the_wanted_cover_are_shown_in_place_and_packed(triplets, tmp_path):
    whole = SEN12MSCR(triplets)
    covers = [float(HIDING[MASKS["tum"].detect(s).classes].mean()) for s in (whole[i] for i in range(len(whole)))]
    wanted = [str(p) for p, cover in zip(whole.patches, covers, strict=True) if 0.1 <= cover <= 0.6]
    assert 0 < len(wanted) < len(whole)
    pack(whole, tmp_path / "pack")
    plan = Data(kind="triplets", mask="tum", cover=(0.1, 0.6))
    for root in (triplets, tmp_path / "pack"):
        found = opened(plan, root).source
        assert [found[i].place.id for i in range(len(found))] == wanted
        assert found[0].cloud is None  # what is hidden is for data.mask to say
        with pytest.raises(InputMissing):
            opened(plan.model_copy(update={"cover": (0.999, 0.9999)}), root)


def test_covers_of_a_pack_are_measured_once(triplets, tmp_path, monkeypatch):
    pack(SEN12MSCR(triplets), tmp_path / "pack")
    plan = Data(kind="triplets", mask="tum", cover=(0.0, 0.6))
    calls = []
    real = MASKS["tum"]
    monkeypatch.setitem(MASKS, "tum", replace(real, detect=lambda sample: calls.append(1) or real.detect(sample)))
    first = opened(plan, tmp_path / "pack")
    assert len(calls) == 6
    assert opened(plan, tmp_path / "pack").digest == first.digest and len(calls) == 6


def test_a_pack_of_series_shows_what_its_folder_shows(series, tmp_path):
    pack(SEN12MSCRTS(series), tmp_path / "whole")
    for options in ({}, {"cover": (0.0, 0.5)}, {"inside": True}):
        plan = Data(kind="series", mask="tum", dates=3, **options)
        ours, theirs = opened(plan, tmp_path / "whole").source, opened(plan, series).source
        assert len(ours) == len(theirs) == 2 and ours[0].s2.shape[0] == 3
        if "inside" in options:  # whole series keep all of their radar
            assert np.array_equal(ours[1].s2, theirs[1].s2) and ours[1].target_index == theirs[1].target_index
            continue
        assert all(alike(ours[i], theirs[i]) for i in range(2))
    drawn = opened(Data(kind="series", mask="tum", dates=3), series).source
    pack(drawn, tmp_path / "drawn")
    again = opened(Data(kind="series", mask="tum", dates=3), tmp_path / "drawn").source
    assert alike(again[1], drawn[1])


def test_a_pack_of_something_else_is_refused_in_words(series, triplets, tmp_path):
    whole = pack(SEN12MSCRTS(series), tmp_path / "whole")
    drawn = pack(opened(Data(kind="series", dates=3), series).source, tmp_path / "drawn")
    single = pack(SEN12MSCR(triplets), tmp_path / "single")
    for packed, options, words in (
        (whole, {"kind": "triplets"}, "holds series of 6 dates"),
        (whole, {"kind": "series", "dates": 6}, "needs 7 dates"),
        (drawn, {"kind": "series", "dates": 4}, "3 drawn dates and their target"),
        (drawn, {"kind": "series", "dates": 3, "inside": True}, "needs whole series"),
        (single, {"kind": "series"}, "needs 3 dates"),
    ):
        with pytest.raises(InputUnsupported, match=words):
            opened(Data(**options), packed.folder)


def test_a_cover_that_chooses_nothing_is_refused(series, tmp_path):
    packed = pack(SEN12MSCRTS(series), tmp_path / "whole")
    for root in (series, packed.folder):
        with pytest.raises(UsageError, match=r"'data\.cover' has no effect"):
            opened(Data(kind="series", inside=True, cover=(0.0, 0.5)), root)


def test_a_seq2point_trains_on_a_pack(series, tmp_path):
    pack(SEN12MSCRTS(series), tmp_path / "whole")
    recipe = tiny("seq2point-no-perceptual", "train.freeze_steps=0", "data.mask=tum", "data.dates=2", "model.set.dates=2")
    assert train(recipe, tmp_path / "whole", tmp_path / "run").steps == 2


def test_other_data_have_another_digest(triplets, series, tmp_path):
    plan = Data(kind="triplets")
    whole = SEN12MSCR(triplets)
    digests = {opened(plan, pack(whole, tmp_path / f"{a}{b}", items=[a, b]).folder).digest for a, b in ((0, 1), (2, 3), (3, 2))}
    changed = replace(whole[0], s2=whole[0].s2 * np.float32(0.5))
    digests |= {opened(plan, pack([changed, whole[1]], tmp_path / "changed").folder).digest}
    assert len(digests) == 4
    root = tmp_path / "copy"
    shutil.copytree(series, root)
    inside = Data(kind="series", inside=True, dates=3, mask="tum")
    for place in (series, root):
        assert opened(inside, place).digest == opened(Data(kind="series", mask="tum"), series).digest
    for path in root.glob("ROIs1868/36/S?/*/*_patch_1.tif"):
        path.rename(path.with_name(path.name.replace("_patch_1", "_patch_7")))
    assert len(opened(inside, root).source) == 2 and opened(inside, root).digest != opened(inside, series).digest


def test_a_run_on_another_pack_of_the_same_size_is_not_gone_on_with(triplets, tmp_path):
    for n in range(2):
        pack(SEN12MSCR(triplets), tmp_path / f"pack{n}", items=[n, n + 2])
    recipe = tiny("dsen2cr-l1")
    train(recipe, tmp_path / "pack0", tmp_path / "run")
    shutil.rmtree(tmp_path / "pack0")
    shutil.move(tmp_path / "pack1", tmp_path / "pack0")
    with pytest.raises(UsageError, match=r"data\.digest was"):
        train(recipe, tmp_path / "pack0", tmp_path / "run", resume=True)


def test_a_clear_image_is_its_own_truth(pairs, triplets, tmp_path):
    pack(SEN12(pairs), tmp_path / "pack")
    for root in (pairs, tmp_path / "pack"):
        shown = Steps(opened(Data(kind="clear"), root, RGB), Data(kind="clear"), RGB, batch=2, seed=0)[0].batch
        assert np.array_equal(shown.target, shown.s2[:, 0]) and bool(shown.target_valid.all())
    pair = SEN12MSCR(triplets)[0]
    clear = as_clear(replace(pair, cloud=np.ones((1, 32, 32), np.float32)))
    assert np.array_equal(clear.s2[0], pair.target) and not np.array_equal(clear.s2, pair.s2)
    assert clear.target_index == 0 and not clear.cloud.any()


def test_radar_is_translated_on_pairs_and_on_a_pack_of_them(pairs, tmp_path):
    pack(SEN12(pairs), tmp_path / "pack")
    for n, root in enumerate((pairs, tmp_path / "pack")):
        assert train(tiny("drib-sar2opt"), root, tmp_path / f"run{n}").steps == 2


def test_pairs_have_no_clouds_of_their_own(pairs, triplets, tmp_path):
    pack(SEN12(pairs), tmp_path / "pack")
    cut, mixed = Data(kind="clear", clouds="cut-out"), Data(kind="triplets")
    for root in (pairs, tmp_path / "pack"):
        with pytest.raises(InputUnsupported, match=r"no clouds to cut out .*\n.*\n.*data\.donors=FOLDER"):
            opened(cut, root, RGB)
        with pytest.raises(InputUnsupported, match=r"clear images: none is cloudy(.|\n)*data\.kind=clear"):
            opened(mixed, root, RGB)
    with pytest.raises(InputUnsupported, match=r"cannot be cut out of these data \(data\.donors\)"):
        open_donors(cut.model_copy(update={"donors": str(pairs)}), bands=RGB, level="L1C", seed=0)
    with_donors = cut.model_copy(update={"donors": str(triplets)})
    donors = open_donors(with_donors, bands=RGB, level="L1C", seed=0)
    steps = Steps(opened(with_donors, pairs, RGB), with_donors, RGB, batch=2, seed=0, donors=donors)
    shown = steps[0].batch
    assert bool((shown.target != shown.s2[:, 0]).any()) and float(shown.cloud.max()) == 1.0


def test_the_second_stage_trains_on_pairs_with_donors(pairs, triplets, tmp_path):
    recipe = tiny("drib-no-translation", f"data.donors={triplets}")
    assert train(recipe, pairs, tmp_path / "run").steps == 2


class _Asked:
    """Samples that say which were asked for."""

    def __init__(self, count):
        self.inner, self.asked = SimulatedTriplets(count=count, size=32), []

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.inner[i]


@pytest.mark.parametrize(("count", "limit"), [(8, 4), (8, 3), (3, 0), (2, 0), (1, 0)])
def test_no_sample_is_its_own_donor(count, limit):
    source = _Asked(count)
    plan = Data(kind="clear", clouds="cut-out", limit=limit)
    steps = Steps(Opened(source, "", "", "", ""), plan, L1C, batch=1, seed=0)
    for i in range(steps.count):
        source.asked.clear()
        steps.sample(i, 0)
        own, *donors = source.asked
        assert own == i * count // steps.count and own not in donors and len(donors) == min(3, count - 1)


def test_dates_are_drawn_by_the_covers_of_the_papers_detector(series):
    place = Place(id="theirs", bands=L1C, level="L1C")
    ours = opened(read_recipe("seq2point").data, series).source
    theirs = SEN12MSCRTS(series, dates=3, cover=(0.0, 0.5), measure=measure_of("s2cloudless", place.bands, "L1C"))
    assert ours.measure.name == "s2cloudless"
    assert [ours.drawn(i) for i in range(2)] == [theirs.drawn(i) for i in range(2)] and ours.covers(0) == theirs.covers(0)


def test_a_detector_that_fits_is_taken_where_none_is_named():
    ten, whole = Place(id="mine", bands=TEN, level="L2A"), Place(id="theirs", bands=L1C, level="L1C")
    assert [detector(mask, ten) for mask in ("auto", "none", "ones")] == ["sixband"] * 3
    assert detector("auto", whole) == "s2cloudless" and detector("tum", whole) == "tum"
    with pytest.raises(InputUnsupported, match=r"data\.mask='meraner2020'(.|\n)*made for L1C(.|\n)*data\.mask=auto"):
        detector("meraner2020", ten)
    with pytest.raises(InputUnsupported, match="No cloud detector fits"):
        detector("auto", Place(id="odd", bands=("B12",), level="L2A"))


def test_own_l2a_data_train_by_the_quick_start(triplets, tmp_path):
    root = tmp_path / "mine"
    shutil.copytree(triplets, root)
    describe(root, L1C, "L2A")  # the thirteen bands as if they were of L2A
    recipe = tiny("quick-start")
    assert recipe.data.mask == "auto"
    assert train(recipe, root, tmp_path / "run").steps == 2
    named = recipe.model_copy(update={"data": recipe.data.model_copy(update={"mask": "meraner2020"})})
    with pytest.raises(InputUnsupported, match=r"data\.mask=auto"):
        train(named, root, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_simulated_samples_bring_their_own_clouds():
    plan = Data(kind="triplets", count=1, size=32, mask="meraner2020")
    assert open_data(plan, SIMULATED, bands=TEN, level="L2A", seed=0, split="train").source[0].cloud is not None
