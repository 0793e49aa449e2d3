"""The low-rank solvers: known matrices recovered, and what every solver of a sequence must hold."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.series_fakes import batch, permuted, series, with_empty_date
from unclouded.errors import InputUnsupported
from unclouded.models.averages import Average
from unclouded.models.averages import Config as AverageConfig
from unclouded.models.nmf import NMF, factorise
from unclouded.models.nmf import Config as NMFConfig
from unclouded.models.online_tensor import Config as TensorConfig
from unclouded.models.online_tensor import OnlineTensor
from unclouded.models.rpca import Config as RPCAConfig
from unclouded.models.rpca import RobustPCA, largest_entries, pursuit, riemannian, shrink_values
from unclouded.models.scene_solver import Cube, SceneSolver, between, cells, pick
from unclouded.sample import NO_AGE, Cover, Sample, Source, Window
from unclouded.scenes.scene import Scene

SOLVERS: dict[str, SceneSolver] = {
    "pursuit": RobustPCA(RPCAConfig.tiny()),
    "riemannian": RobustPCA(replace(RPCAConfig.tiny(), method="riemannian", sparse=0.1)),
    "lee-seung": NMF(NMFConfig.tiny()),
    "manhattan": NMF(replace(NMFConfig.tiny(), method="manhattan")),
    "incremental": NMF(replace(NMFConfig.tiny(), method="incremental")),
    "tensor": OnlineTensor(TensorConfig.tiny()),
    "tensor-dates": OnlineTensor(replace(TensorConfig.tiny(), modes=("dates",))),
}
EVERY = pytest.mark.parametrize("name", SOLVERS)


def low_rank_plus_sparse(p: int, t: int, rank: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    low = rng.random((p, rank)) @ rng.random((rank, t))
    return low, np.where(rng.random((p, t)) < share, rng.uniform(-3, 3, (p, t)), 0)


def off(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


# --------------------------------------------------------------------------------------------------------- known matrices


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pursuit_recovers_low_rank_plus_sparse(dtype: Any) -> None:
    low, gross = low_rank_plus_sparse(600, 60, 3, 0.1, 0)
    found, sparse = pursuit((low + gross).astype(dtype), np.ones(low.shape, bool))
    assert off(found, low) < 1e-5 and off(sparse, gross) < 1e-5
    assert found.dtype == dtype


def test_pursuit_recovers_it_with_entries_missing() -> None:
    low, gross = low_rank_plus_sparse(600, 60, 3, 0.1, 0)
    known = np.random.default_rng(1).random(low.shape) > 0.3
    found, _ = pursuit(np.where(known, low + gross, 0), known)
    assert off(found, low) < 1e-3


def test_pursuit_recovers_a_tensor_of_dates() -> None:
    rng = np.random.default_rng(3)
    low = np.einsum("tr,rchw->tchw", rng.random((40, 2)), rng.random((2, 3, 12, 12))) * 0.5
    cloud = rng.random((40, 12, 12)) < 0.05
    x = np.where(cloud[:, None], 1.0, low).astype(np.float32)
    everywhere = np.ones(cloud.shape, bool)
    cube = Cube(x=x, valid=everywhere, clear=everywhere, days=np.arange(40) * 5)
    found, part = RobustPCA(RPCAConfig(mask=False)).solve(cube)
    assert part.all() and off(found, low) < 1e-3


@pytest.mark.parametrize(("p", "t", "rank", "share"), [(600, 60, 3, 0.1), (800, 40, 2, 0.05)])
def test_riemannian_recovers_low_rank_plus_sparse(p: int, t: int, rank: int, share: float) -> None:
    low, gross = low_rank_plus_sparse(p, t, rank, share, 0)
    found, sparse = riemannian((low + gross).astype(np.float32), np.ones(low.shape, bool), rank=rank, sparse=1.5 * share)
    assert off(found, low) < 1e-3
    assert (sparse != 0).sum() <= 1.5 * share * low.size + 1
    assert np.linalg.matrix_rank(found, tol=1e-2) == rank


RECOVERING: dict[str, SceneSolver] = {  # each with the settings that a close fit takes
    "pursuit": RobustPCA(RPCAConfig(weight=1.5)),
    "riemannian": RobustPCA(RPCAConfig(method="riemannian", rank=2, sparse=0.0)),
    "lee-seung": NMF(NMFConfig(rank=2, iterations=2000)),
    "manhattan": NMF(NMFConfig(method="manhattan", rank=2, iterations=300)),
    "incremental": NMF(NMFConfig(method="incremental", rank=2, iterations=50, rounds=40)),
    "tensor-dates": OnlineTensor(TensorConfig(modes=("dates",), rank=2, passes=30, ridge=1e-6, sparse=1e-3)),
}


def cloudy_tensor(seed: int = 0) -> tuple[Cube, np.ndarray]:
    """A nonnegative series of rank two, one pixel in ten of every date under bright cloud; and the ground."""
    rng = np.random.default_rng(seed)
    low = np.einsum("tr,rchw->tchw", rng.random((30, 2)), rng.random((2, 3, 14, 14))).astype(np.float32) * np.float32(0.3)
    cloud = rng.random((30, 14, 14)) < 0.1
    gross = rng.uniform(0.3, 0.9, low.shape).astype(np.float32)
    x = np.where(cloud[:, None], low + gross, low)
    return Cube(x=x, valid=np.ones(cloud.shape, bool), clear=~cloud, days=np.arange(30) * 5), low


@pytest.mark.parametrize("name", RECOVERING)
def test_all_low_rank_solvers_recover_the_ground_under_masked_clouds(name: str) -> None:
    cube, low = cloudy_tensor()
    found, part = RECOVERING[name].solve(cube)
    assert part.all() and off(found, low) < 1e-3


@pytest.mark.parametrize("name", ["pursuit", "manhattan", "tensor-dates"])
def test_robust_solvers_recover_it_without_the_mask(name: str) -> None:
    cube, low = cloudy_tensor()
    remover = copy(RECOVERING[name])
    remover.config = replace(remover.config, mask=False)  # type: ignore[attr-defined]
    found, _ = remover.solve(cube)
    assert off(found, low) < 1.5e-3


def test_factors_are_not_negative() -> None:
    cube, _ = cloudy_tensor()
    x = cube.x.reshape(30, -1).T - np.float32(0.2)
    for method in ("lee-seung", "manhattan", "incremental"):
        w, h = factorise(x, np.ones(x.shape, bool), replace(NMFConfig.tiny(), method=method))
        assert w.min() >= 0 and h.min() >= 0 and w.max() > 0


def test_manhattan_shrugs_off_gross_errors_that_lee_seung_follows() -> None:
    rng = np.random.default_rng(0)
    low = (rng.random((400, 2)) @ rng.random((2, 30))).astype(np.float32) * 0.3
    dirty = np.where(rng.random(low.shape) < 0.1, np.float32(1), low)
    known = np.ones(low.shape, bool)
    configs = [NMFConfig(method=m, rank=2, iterations=60) for m in ("manhattan", "lee-seung")]
    one, two = (off(np.matmul(*factorise(dirty, known, c)), low) for c in configs)
    assert one < 0.05 < two


def test_centring_shrinks_missing_entries_towards_the_mean() -> None:
    sample, _ = ground(t=12)
    assert sample.cloud is not None
    t = sample.target_index
    assert t is not None
    sample.cloud[t] = 0
    sample.cloud[t, :15] = 1  # only a quarter of the date is seen
    noisy = replace(sample, s2=sample.s2 + np.random.default_rng(0).normal(0, 0.05, sample.s2.shape).astype(np.float32))
    hidden = (sample.cloud[t] >= 0.5) & (sample.clear().sum(0) >= 4)
    plain, centred = (RobustPCA(RPCAConfig(centre=c))(batch(noisy)).s2[0].numpy()[:, hidden] for c in (False, True))
    assert np.abs(plain - centred).max() > 0.01
    mean = (noisy.s2 * noisy.clear()[:, None]).sum(0) / np.maximum(noisy.clear().sum(0), 1)
    assert np.abs(centred - mean[:, hidden]).mean() < np.abs(plain - mean[:, hidden]).mean()


def test_shrinking_is_that_of_the_singular_values() -> None:
    a = np.random.default_rng(0).normal(size=(30, 8))
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    wanted = (u * np.maximum(s - 2, 0)) @ vt
    np.testing.assert_allclose(shrink_values(a, 2.0), wanted, atol=1e-10)
    np.testing.assert_allclose(shrink_values(a.T, 2.0), wanted.T, atol=1e-10)


def test_largest_entries() -> None:
    a = np.array([[1.0, -5, 2], [4, 0, -3]])
    assert largest_entries(a, 2).tolist() == [[0, -5, 0], [4, 0, 0]]
    assert not largest_entries(a, 0).any() and (largest_entries(a, 6) == a).all()


def ground(t: int = 20, size: int = 20, seed: int = 0) -> tuple[Sample, np.ndarray]:
    """A series of rank two under opaque clouds."""
    rng = np.random.default_rng(seed)
    fake = series(t, (size, size), ("B02", "B03", "B04", "B08"), seed=seed)
    low = 0.5 * np.einsum("tr,rchw->tchw", rng.random((t, 2)), rng.random((2, 4, size, size))).astype(np.float32)
    assert fake.cloud is not None
    return replace(fake, s2=np.where(fake.cloud[:, None] >= 0.5, np.float32(0.8), low)), low


@pytest.mark.parametrize(
    ("solver", "least"),
    [
        (RobustPCA(RPCAConfig()), 0.02),
        (RobustPCA(RPCAConfig(method="riemannian", rank=2, sparse=0.0)), 1e-3),
        (NMF(NMFConfig(rank=2)), 0.02),
        (NMF(NMFConfig(method="manhattan", rank=2, iterations=40)), 0.02),
        (NMF(NMFConfig(method="incremental", rank=2)), 0.02),
        (OnlineTensor(TensorConfig(modes=("dates",), rank=2, passes=10)), 0.06),
    ],
    ids=["pursuit", "riemannian", "lee-seung", "manhattan", "incremental", "tensor-dates"],
)
def test_hidden_ground_of_low_rank_comes_back(solver: SceneSolver, least: float) -> None:
    sample, low = ground()
    made = solver(batch(sample)).s2[0].numpy()
    t = sample.target_index
    assert t is not None and sample.cloud is not None
    hidden = (sample.cloud[t] >= 0.5) & (sample.clear().sum(0) >= 8)
    assert hidden.sum() > 40
    assert np.sqrt(np.mean((made - low[t])[:, hidden] ** 2)) < least


# ------------------------------------------------------------------------------------------- what every solver must hold


@EVERY
def test_shape_series_and_determinism(name: str) -> None:
    b = batch(series(6, (15, 22), seed=4))
    made, again = SOLVERS[name](b), SOLVERS[name](b)
    assert made.s2.shape == (1, 13, 15, 22) and made.series is not None and made.series.shape == (1, 6, 13, 15, 22)
    assert np.array_equal(made.s2.numpy(), again.s2.numpy(), equal_nan=True)
    assert np.array_equal(made.series[:, 3].numpy(), made.s2.numpy(), equal_nan=True)
    assert made.source is not None and made.support is not None
    refused = made.s2.isnan().any(1)
    assert bool((refused == (made.source == Source.REFUSED)).all())
    assert bool((made.support[refused] == 0).all()) and bool(made.s2.isfinite().any())


@EVERY
def test_the_order_of_dates_and_empty_dates_do_not_matter(name: str) -> None:
    sample = series(6, (16, 16))
    wanted = SOLVERS[name](batch(sample)).s2.numpy()
    np.testing.assert_array_equal(SOLVERS[name](permuted(batch(sample), [3, 0, 5, 1, 4, 2])).s2.numpy(), wanted)
    for value in (np.nan, 1e30):
        np.testing.assert_array_equal(SOLVERS[name](batch(with_empty_date(sample, value))).s2.numpy(), wanted)


@EVERY
def test_hidden_and_invalid_values_do_not_leak(name: str) -> None:
    sample = series(6, (16, 16))
    assert sample.cloud is not None
    sample.s2_valid[:, 2:5, 3:9] = False
    unseen = ~sample.clear()[:, None]
    made = [
        SOLVERS[name](batch(replace(sample, s2=np.where(unseen, np.float32(v), sample.s2)))).s2.numpy()
        for v in (np.nan, 0.0, 1e30)
    ]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


@EVERY
@pytest.mark.parametrize("t", [2, 30])
def test_two_to_thirty_dates_and_a_hidden_target(name: str, t: int) -> None:
    sample = series(t, (8, 8), ("B02", "B08"))
    assert sample.cloud is not None
    sample.cloud[:] = 0
    sample.cloud[t // 2] = 1
    made = SOLVERS[name](batch(sample))
    assert bool(made.s2.isfinite().all()) and made.age is not None and int(made.age.abs().max()) == 7


@EVERY
def test_a_scene_is_the_same_however_it_is_cut(name: str) -> None:
    sample = series(4, (40, 40), ("B02", "B08"), seed=2)
    scene = Scene.of(sample)
    date = sample.target_date
    assert date is not None
    remover = SOLVERS[name].adapt(scene, date)
    whole = remover(batch(scene.read(target=date))).s2.numpy()
    for window in (Window(0, 0, 40, 40), Window(3, 17, 20, 11), Window(25, 0, 15, 40)):
        part = remover(batch(scene.read(window, target=date))).s2.numpy()
        np.testing.assert_array_equal(part, whole[..., *window.slices])
    fresh = SOLVERS[name].adapt(scene, date)(batch(scene.read(Window(25, 0, 15, 40), target=date))).s2.numpy()
    np.testing.assert_array_equal(fresh, whole[..., 25:, :])


def test_without_the_mask_clouds_are_data() -> None:
    sample, _ = ground()
    assert sample.cloud is not None
    brighter = replace(sample, s2=np.where(sample.cloud[:, None] >= 0.5, np.float32(1.2), sample.s2))
    for solver, other in (
        (RobustPCA(RPCAConfig(mask=False)), RobustPCA(RPCAConfig())),
        (NMF(NMFConfig(mask=False)), NMF(NMFConfig())),
    ):
        assert not np.array_equal(solver(batch(sample)).s2.numpy(), solver(batch(brighter)).s2.numpy())
        assert np.array_equal(other(batch(sample)).s2.numpy(), other(batch(brighter)).s2.numpy(), equal_nan=True)


def test_seeds_change_the_factors_and_leave_global_state_alone() -> None:
    sample = batch(series(5, (12, 12)))
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    a, b = (NMF(replace(NMFConfig.tiny(), seed=s))(sample).s2.numpy() for s in (1, 2))
    assert not np.array_equal(a, b, equal_nan=True)
    assert np.array_equal(before, np.random.get_state()[1])


# --------------------------------------------------------------------------------------------------- dates, cells, weights


def test_pick_takes_the_target_and_the_nearest_or_clearest() -> None:
    days, share = np.array([0, 10, 20, 30, 40]), np.array([1.0, 0.1, 0.0, 0.9, 1.0])
    seen = np.ones(5, bool)
    assert pick(days, share, seen, 20, 3, "nearest") == [1, 2, 3]
    assert pick(days, share, seen, 20, 3, "clearest") == [0, 2, 4]
    seen[3] = False
    assert pick(days, share, seen, 20, 9, "nearest") == [0, 1, 2, 4]
    with pytest.raises(InputUnsupported):
        pick(days, share, np.zeros(5, bool), 20, 3, "nearest")


def test_a_day_without_an_image_is_on_the_line_between() -> None:
    frames = np.arange(3, dtype=np.float32)[:, None, None, None] * np.ones((3, 1, 2, 2), np.float32)
    days, known = np.array([0, 10, 20]), np.array([True, False, True])
    assert between(frames, days, known, 5).max() == pytest.approx(0.5)
    assert between(frames, days, known, 20).max() == 2 and between(frames, days, known, 99).max() == 2
    assert np.isnan(between(frames, days, np.zeros(3, bool), 5)).all()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_every_pixel_lies_in_a_cell_with_weight(height: int, width: int, side: int, overlap: int) -> None:
    weight = np.zeros((height, width))
    for cell, share in cells((height, width), side, overlap, Window(0, 0, height, width)):
        assert cell.row + cell.height <= height and cell.col + cell.width <= width and share.min() > 0
        weight[cell.slices] += share
    assert weight.min() > 0


def test_a_pixel_that_no_date_shows_is_refused() -> None:
    sample = series(4, (16, 16))
    assert sample.cloud is not None
    sample.cloud[:, 5, 5] = 1
    made = SOLVERS["pursuit"](batch(sample))
    assert made.source is not None and made.age is not None
    assert bool(made.s2[0, :, 5, 5].isnan().all()) and made.source[0, 5, 5] == Source.REFUSED and made.age[0, 5, 5] == NO_AGE


def test_dates_are_chosen_for_the_whole_scene() -> None:
    sample = series(6, (16, 16))
    scene = Scene.of(sample)
    assert scene.masks is not None and sample.target_date is not None
    scene.masks[4] = Cover.NODATA
    few = RobustPCA(replace(RPCAConfig.tiny(), dates=3)).adapt(scene, sample.target_date)
    assert few._picked == (2, 3, 5) or few._picked == (1, 2, 3)
    assert 4 not in few._picked and 3 in few._picked


def test_mosaicing_is_the_mean_of_the_clear_dates_and_half_where_there_is_none() -> None:
    sample = series(4, (6, 6), ("B02", "B08"))
    assert sample.cloud is not None
    sample.cloud[:] = 1
    sample.cloud[[0, 3], 1, 1] = 0
    sample.cloud[3, 2, 2] = 0
    made = Average(AverageConfig(rule="mosaic", days=100_000, never=0.5))(batch(sample))
    np.testing.assert_allclose(made.s2[0, :, 1, 1].numpy(), sample.s2[[0, 3], :, 1, 1].mean(0), rtol=1e-6)
    np.testing.assert_allclose(made.s2[0, :, 2, 2].numpy(), sample.s2[3, :, 2, 2])
    assert made.source is not None
    assert bool((made.s2[0, :, 3, 3] == 0.5).all()) and made.source[0, 3, 3] == Source.PRIOR
    ours = Average(AverageConfig(rule="mosaic", days=100_000))(batch(sample))
    assert bool(ours.s2[0, :, 3, 3].isnan().all())
