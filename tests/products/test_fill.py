"""Filling: what was seen is kept bit for bit, what was hidden is never the cloud, invalid pixels never decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from products.made import COARSE, COARSEST, DATE, FINE, classes_of, coarse_all, guess_of, hidden, mixed, single
from unclouded.errors import InputUnsupported, RecordError, UsageError
from unclouded.products.fill import KEEP_ALL, Guess, Limits, fill, layers_of, spread
from unclouded.sample import NO_AGE, Cover, Prediction, Source, Window
from unclouded.units import to_counts


def filled(scene, guess=None, **options):
    at = scene.window
    return fill(scene, DATE, at, scene.masks[0], guess_of(scene, at) if guess is None else guess, **options)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 10_000))
def test_observed_pixels_keep_their_counts_in_every_layer(height, width, seed):
    scene = mixed(height, width, seed)
    block, covered = filled(scene), hidden(scene.masks[0])
    for layer, dn, out in zip(scene.source.parts, scene.source.dn, block.clear, strict=True):
        observed = coarse_all(~covered & (scene.masks[0] != Cover.NODATA), layer.factor)
        assert out.dtype == dn.dtype
        np.testing.assert_array_equal(out[:, observed], dn[:, observed])
    np.testing.assert_array_equal(block.source == Source.OBSERVED, ~covered & (scene.masks[0] != Cover.NODATA))
    assert sum(block.pixels().values()) == height * width


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_hidden_pixels_hold_the_guess_or_nothing_never_the_cloud(height, width, seed):
    scene = mixed(height, width, seed)
    block, guess, covered = filled(scene), guess_of(scene, scene.window), hidden(scene.masks[0])
    refused = covered & ~np.isfinite(guess.s2).all(0)
    assert (block.source[refused] == Source.REFUSED).all()
    assert (block.clear[0][:, refused] == 0).all()
    kept = covered & ~refused
    expected = np.rint(guess.s2[[scene.place.bands.index(b) for b in FINE]][:, kept].astype(np.float64) * 10_000 + 1000)
    np.testing.assert_array_equal(block.clear[0][:, kept], expected.astype(np.uint16))
    np.testing.assert_array_equal(block.source[kept], guess.source[kept])
    np.testing.assert_array_equal(block.age[kept], guess.age[kept])
    assert (block.age[refused] == NO_AGE).all()


def test_a_coarse_pixel_is_the_mean_guess_over_the_hidden_pixels_beneath():
    scene = mixed(31, 26, 3)
    block, guess, covered = filled(scene), guess_of(scene, scene.window), hidden(scene.masks[0])
    kept = covered & np.isfinite(guess.s2).all(0)
    seen = 0
    for n, (bands, f) in enumerate(((FINE, 1), (COARSE, 2), (COARSEST, 6))):
        for r in range(block.clear[n].shape[1]):
            for c in range(block.clear[n].shape[2]):
                at = (slice(r * f, (r + 1) * f), slice(c * f, (c + 1) * f))
                if not covered[at].any():
                    continue
                if not kept[at].any():
                    assert (block.clear[n][:, r, c] == 0).all()
                    continue
                for b, band in enumerate(bands):
                    values = guess.s2[scene.place.bands.index(band)][at][kept[at]].astype(np.float64)
                    assert block.clear[n][b, r, c] == np.rint(values.mean() * 10_000 + 1000)
                    seen += 1
    assert seen > 200


def test_sigma_is_zero_where_observed_and_stated_beneath_rebuilt_coarse_pixels():
    classes = np.full((6, 12), Cover.CLEAR, np.uint8)
    classes[0, 0] = Cover.THICK
    scene = mixed(6, 12, 0, classes)
    guess = Guess(s2=np.full((6, 6, 12), 0.2, np.float32), sigma=np.full((6, 6, 12), 0.0312, np.float32))
    block = filled(scene, guess)
    at = {band: n for n, band in enumerate(scene.place.bands)}
    assert block.sigma[at["B02"], 0, 0] == 312
    assert block.sigma[at["B02"], 0, 1] == 0
    assert (block.sigma[at["B11"], :2, :2] == 312).all() and (block.sigma[at["B11"], 2:] == 0).all()
    assert (block.sigma[at["B01"], :, :6] == 312).all() and (block.sigma[at["B01"], :, 6:] == 0).all()
    assert block.source[0, 0] == Source.DATES and (block.source == Source.OBSERVED).sum() == 71


def test_sigma_of_a_rebuilt_pixel_is_never_the_code_of_an_observed_or_unknown_one():
    classes = np.full((1, 3), Cover.THICK, np.uint8)
    scene = single(np.full((3, 1, 3), 2000, np.uint16), classes)
    sigma = np.array([0.0, 1e9, np.nan], np.float32).reshape(1, 1, 3).repeat(3, 0)
    block = filled(scene, Guess(s2=np.full((3, 1, 3), 0.1, np.float32), sigma=sigma))
    assert block.sigma[0].tolist() == [[1, 65_534, 65_535]]
    unknown = filled(scene, Guess(s2=np.full((3, 1, 3), 0.1, np.float32)))
    assert (unknown.sigma == 65_535).all()
    constant = filled(scene, Guess(s2=np.full((3, 1, 3), 0.1, np.float32)).with_sigma(np.array([0.01, 0.02, 0.03])))
    assert constant.sigma[:, 0, 0].tolist() == [100, 200, 300]


@pytest.mark.parametrize(
    ("dtype", "poisons"), [("uint16", (0, 1, 65_535)), ("int16", (0, -5, 32_767)), ("float32", (0, np.nan, 1e30))]
)
def test_what_lies_under_invalid_pixels_changes_nothing(dtype, poisons):
    classes = classes_of(40, 30, 5)
    dn = np.random.default_rng(0).integers(1001, 9000, (3, 40, 30)).astype(dtype)
    blocks = []
    for poison in poisons:
        poisoned = dn.copy()
        poisoned[:, classes == Cover.NODATA] = poison
        blocks.append(filled(single(poisoned, classes)))
    assert (blocks[0].mask == Cover.NODATA).sum() > 50
    for other in blocks[1:]:
        for a, b in zip(blocks[0].arrays(), other.arrays(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_cloud_itself_changes_nothing():
    classes = classes_of(40, 30, 5)
    dn = np.random.default_rng(0).integers(1001, 9000, (3, 40, 30)).astype(np.uint16)
    blocks = []
    for cloud in (1, 9_000, 65_535):
        clouded = dn.copy()
        clouded[:, hidden(classes)] = cloud
        blocks.append(filled(single(clouded, classes)))
    for other in blocks[1:]:
        for a, b in zip(blocks[0].arrays(), other.arrays(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_data_stays_unless_asked_and_is_never_called_observed():
    classes = np.full((4, 4), Cover.CLEAR, np.uint8)
    dn = np.full((3, 4, 4), 2000, np.uint16)
    dn[:, 0, 0] = 0  # the mask says clear, but nothing was measured
    classes[1, 1] = Cover.NODATA  # measured, but the mask says no data
    scene = single(dn, classes)
    block = filled(scene)
    assert block.mask[0, 0] == Cover.NODATA and block.source[0, 0] == Source.NODATA
    assert (block.clear[0][:, [0, 1], [0, 1]] == 0).all() and (block.age[[0, 1], [0, 1]] == NO_AGE).all()
    assert (block.sigma[:, [0, 1], [0, 1]] == 65_535).all()
    guess = Guess(s2=np.full((3, 4, 4), 0.25, np.float32), source=np.full((4, 4), Source.SAR, np.uint8))
    rebuilt = filled(scene, guess, limits=Limits(nodata=True))
    assert (rebuilt.clear[0][:, [0, 1], [0, 1]] == 3500).all()
    assert rebuilt.source[0, 0] == rebuilt.source[1, 1] == Source.SAR and rebuilt.mask[0, 0] == Cover.NODATA
    assert (rebuilt.source == Source.OBSERVED).sum() == 14


def test_limits_refuse_old_uncertain_and_unsupported_guesses():
    classes = np.full((1, 4), Cover.THICK, np.uint8)
    scene = single(np.full((3, 1, 4), 9999, np.uint16), classes)
    guess = Guess(
        s2=np.full((3, 1, 4), 0.1, np.float32), age=np.array([[-5, 40, NO_AGE, 5]], np.int16),
        sigma=np.broadcast_to(np.array([0.01, 0.02, np.nan, 0.2], np.float32), (3, 1, 4)).copy(),
        source=np.array([[Source.DATES, Source.DATES, Source.PRIOR, Source.REFUSED]], np.uint8),
    )  # fmt: skip

    def sources(**limits):
        return filled(scene, guess, limits=Limits(**limits)).source[0].tolist()

    assert sources() == [2, 2, 5, 6]
    assert sources(max_age=30) == [2, 6, 6, 6]
    assert sources(max_age=4) == [6, 6, 6, 6]
    assert sources(max_sigma=0.015) == [2, 6, 6, 6]
    assert sources(prior=False) == [2, 2, 6, 6]
    assert (filled(scene, guess, limits=Limits(max_age=4)).clear[0] == 0).all()
    ageless = Guess(s2=guess.s2)
    assert (filled(scene, ageless, limits=Limits(max_age=400)).source == Source.REFUSED).all()
    assert (filled(scene, ageless, limits=Limits(max_sigma=0.5)).source == Source.REFUSED).all()


def test_without_a_guess_hidden_pixels_are_refused_and_clear_ones_kept():
    scene = mixed(20, 20, 2)
    block = fill(scene, DATE, scene.window, scene.masks[0], None)
    assert (block.source[hidden(scene.masks[0])] == Source.REFUSED).all()
    assert (block.clear[0][:, hidden(scene.masks[0])] == 0).all()
    clear = scene.masks[0] == Cover.CLEAR
    np.testing.assert_array_equal(block.clear[0][:, clear], scene.source.dn[0][:, clear])


def test_blocks_side_by_side_equal_the_whole():
    scene = mixed(40, 50, 7)
    whole = filled(scene)
    for at in scene.blocks(12):
        part = fill(scene, DATE, at, scene.masks[0][at.slices], guess_of(scene, at))
        np.testing.assert_array_equal(part.source, whole.source[at.slices])
        np.testing.assert_array_equal(part.sigma, whole.sigma[(slice(None), *at.slices)])
        for n, factor in enumerate((1, 2, 6)):
            r, c = at.row // factor, at.col // factor
            rows, cols = part.clear[n].shape[1:]
            np.testing.assert_array_equal(part.clear[n], whole.clear[n][:, r : r + rows, c : c + cols])


def test_one_resolution_repeats_coarse_counts_and_keeps_band_names():
    scene = mixed(31, 26, 4)
    (layer,) = layers_of(scene, DATE, 10)
    assert layer.bands == scene.place.bands and layer.factor == 1 and layer.shape == (31, 26)
    assert layer.descriptions == tuple(f"{band}_delivered" for band in scene.place.bands) and len(layer.offset) == 6
    block = filled(scene, layers=(layer,))
    clear = scene.masks[0] == Cover.CLEAR
    coarse = scene.source.dn[2][0].repeat(6, 0).repeat(6, 1)[:31, :26]
    np.testing.assert_array_equal(block.clear[0][0][clear], coarse[clear])
    assert (block.sigma[:, clear] == 0).all()
    with pytest.raises(UsageError, match="never averaged"):
        layers_of(scene, DATE, 20)
    assert len(layers_of(scene, DATE)) == 3


def test_layers_of_different_types_cannot_be_joined():
    scene = mixed(12, 12, 0)
    from dataclasses import replace

    parts = (replace(scene.source.parts[0], quantification=5000.0), *scene.source.parts[1:])
    with pytest.raises(InputUnsupported, match="--res"):
        layers_of(replace(scene, source=replace(scene.source, parts=parts)), DATE, 10)


@settings(max_examples=30, deadline=None)
@given(
    row=st.integers(0, 20),
    col=st.integers(0, 20),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    f=st.sampled_from((1, 2, 3, 6)),
)
def test_spread_repeats_each_coarse_pixel_onto_its_own_ground(row, col, height, width, f):
    rows, cols = (-(-(a + n) // f) - a // f for a, n in ((row, height), (col, width)))
    coarse = np.arange(rows * cols).reshape(rows, cols)
    fine = spread(coarse, f, Window(row, col, height, width))
    assert fine.shape == (height, width)
    for y, x in ((0, 0), (height - 1, width - 1), (height // 2, width // 2)):
        assert fine[y, x] == coarse[(row + y) // f - row // f, (col + x) // f - col // f]


def test_guesses_that_cannot_be_right_are_refused_in_words():
    scene = mixed(6, 6, 0, np.full((6, 6), Cover.THICK, np.uint8))
    good = np.full((6, 6, 6), 0.1, np.float32)
    with pytest.raises(RecordError, match="shape"):
        filled(scene, Guess(s2=good[:, :5]))
    with pytest.raises(RecordError, match="sigma"):
        filled(scene, Guess(s2=good, sigma=good[:2]))
    with pytest.raises(RecordError, match="age"):
        filled(scene, Guess(s2=good, age=np.zeros((2, 2), np.int16)))
    with pytest.raises(RecordError, match="codes"):
        filled(scene, Guess(s2=good, source=np.full((6, 6), Source.OBSERVED, np.uint8)))
    with pytest.raises(RecordError, match="Cover"):
        fill(scene, DATE, scene.window, np.full((6, 6), 7, np.uint8), None)


def test_a_guess_is_one_sample_of_a_prediction():
    import torch

    s2 = torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2)
    age = torch.ones(2, 2, 2, dtype=torch.int16)
    guess = Guess.of(Prediction(s2=s2, age=age), 1)
    np.testing.assert_array_equal(guess.s2, s2[1].numpy())
    assert guess.sigma is None and guess.source is None and guess.age.dtype == np.int16


def test_rebuilt_counts_never_land_on_nodata_or_saturation():
    scene = single(np.full((3, 1, 2), 5000, np.uint16), np.full((1, 2), Cover.THICK, np.uint8))
    guess = Guess(s2=np.array([[-1.0, 60.0]], np.float32)[None].repeat(3, 0))
    assert filled(scene, guess).clear[0][0].tolist() == [[1, 65_534]]
    assert to_counts(np.array([[[-0.1]]], np.float32), dtype=np.uint16, offset=-1000).item() == 1


@pytest.mark.parametrize(("dtype", "nodata", "least", "most"), [
    ("uint16", None, 1, 65_534), ("uint8", None, 1, 255), ("uint8", 255, 0, 254), ("int16", 32_767, -32_768, 32_766),
    ("int16", -9999, -32_768, 32_767), ("int16", 0, -32_768, 32_767),
])  # fmt: skip
def test_rebuilt_counts_are_never_no_data_whatever_the_file_calls_so(dtype, nodata, least, most):
    scene = single(np.full((3, 1, 5), 50, dtype), np.full((1, 5), Cover.THICK, np.uint8), nodata=nodata, offset=(0.0,) * 3)
    exactly = 0.0 if nodata is None else nodata / 10_000
    guess = Guess(s2=np.array([[-99.0, 99.0, 0.0, exactly, 0.005]], np.float32)[None].repeat(3, 0))
    counts = filled(scene, guess).clear[0]
    assert (counts != (0 if nodata is None else nodata)).all()
    assert counts[0, 0, :2].tolist() == [least, most] and counts[0, 0, 4] == 50
    assert abs(int(counts[0, 0, 3]) - (nodata or 0)) == 1


def test_bands_that_were_measured_stay_where_others_of_the_pixel_were_not():
    dn = np.full((3, 2, 3), 2000, np.uint16)
    dn[2, 0, :2] = 0  # one band is missing
    dn[:, 1, 0] = 0  # all are
    classes = np.full((2, 3), Cover.CLEAR, np.uint8)
    classes[0, 0] = classes[0, 1] = classes[1, 0] = Cover.NODATA  # as detectors say of it
    guess = Guess(s2=np.full((3, 2, 3), 0.25, np.float32), sigma=np.full((3, 2, 3), 0.01, np.float32))
    for limits, made, unsure in ((KEEP_ALL, 0, 65_535), (Limits(nodata=True), 3500, 100)):
        block = filled(single(dn, classes), guess, limits=limits)
        assert block.clear[0][:, 0, 0].tolist() == [2000, 2000, made] and block.clear[0][:, 1, 0].tolist() == [made] * 3
        assert block.sigma[:, 0, 0].tolist() == [0, 0, unsure] and block.sigma[:, 1, 0].tolist() == [unsure] * 3
        assert block.mask[0, 0] == Cover.NODATA and (block.source[0, 0] == Source.NODATA) == (limits is KEEP_ALL)
        assert (block.clear[0][:, 1, 1:] == 2000).all() and (block.source[1, 1:] == Source.OBSERVED).all()


def test_nothing_outside_a_wanted_area_is_kept_and_no_cloud_in_a_coarse_pixel():
    dn = np.full((3, 1, 2), 2000, np.uint16)
    dn[2] = 0
    scene = single(dn, np.full((1, 2), Cover.NODATA, np.uint8))
    outside = replace(scene, decisions={"grid": {"outline": "an area"}})
    assert (filled(scene).clear[0][:2] == 2000).all() and (filled(outside).clear[0] == 0).all()
    classes = np.full((12, 12), Cover.NODATA, np.uint8)
    classes[0, 0] = Cover.THICK  # in the first coarse pixel
    scene = mixed(12, 12, classes=np.full((12, 12), Cover.CLEAR, np.uint8))
    scene.source.dn[0][2] = 0  # a fine band is missing everywhere
    coarse = scene.source.dn[1].copy()
    block = filled(replace(scene, masks=classes[None]))
    assert (block.clear[1][:, 0, 0] == 0).all()
    np.testing.assert_array_equal(block.clear[1][:, 1:], coarse[:, 1:])
