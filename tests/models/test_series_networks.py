"""The series networks: parity with the authors' code, and what every series network must hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.series_fakes import Golden, batch, permuted, series, with_empty_date
from unclouded.errors import InputUnsupported, UsageError
from unclouded.models import seq2point, stgan, uncrtaints, utilise
from unclouded.models.dsen2cr import Config as DSen2CRConfig
from unclouded.models.dsen2cr import DSen2CR
from unclouded.models.ensemble import Ensemble
from unclouded.models.per_date import PerDate
from unclouded.models.several_dates import SeveralDates, choose_dates
from unclouded.sample import NO_AGE, Prediction, Source
from unclouded.scenes.scene import Scene

IR = {"bands": ("B04", "B03", "B02", "B08"), "restores": ("B04", "B03", "B02"), "sar": False, "relu_after": False}
UNCRTAINTS = uncrtaints.Config(width=16, blocks_after=2, heads=4, model_width=32)


def params(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# ------------------------------------------------------------------------------------------------------------ goldens


@pytest.mark.parametrize(
    ("name", "config", "size"),
    [
        ("diag_b1", UNCRTAINTS, 7_130),
        ("iso", replace(UNCRTAINTS, covariance="iso"), 6_926),
        ("usev_sep", replace(UNCRTAINTS, values=True, separate_heads=True, scale_by=1.0), 8_250),
        ("mono", replace(UNCRTAINTS, dates=1), 6_010),
    ],
)
def test_uncrtaints_is_the_published_network(golden: Path, name: str, config: uncrtaints.Config, size: int) -> None:
    gold = Golden(golden, f"uncrtaints_{name}")
    network = uncrtaints.UnCRtainTS(config, gold.weights).network
    assert params(network) == size
    y = network(gold["in/x_scaled"], gold["in/dates"])
    gold.assert_near(y, "out/y") if y.dim() == 5 else gold.assert_near(y[:, None], "out/y")
    mean, variance, target = y[:, :13], y[:, 13:], gold["in/target_scaled"][:, 0]
    loss = uncrtaints.multivariate_nll(mean, variance, target, as_published_batch_sum=True)
    assert loss.item() == pytest.approx(float(gold["loss/mgnll"]), rel=1e-6)
    if "check/ours_correct_mean" in gold.arrays:
        ours = uncrtaints.multivariate_nll(mean, variance, target)
        assert ours.item() == pytest.approx(float(gold["check/ours_correct_mean"]), rel=1e-6)
        assert uncrtaints.nll(mean, variance, target).item() == pytest.approx(float(gold["loss/gnll_full"]), rel=1e-6)
    loss.backward()
    gold.assert_gradients(network)


def test_uncrtaints_attention_is_the_published_one(golden: Path) -> None:
    gold = Golden(golden, "uncrtaints_diag_b1")
    network = uncrtaints.UnCRtainTS(UNCRTAINTS, gold.weights).network
    x, days = gold["in/x_scaled"], gold["in/dates"]
    f = network.in_conv(x.flatten(0, 1))
    f = network.in_block[0](f).unflatten(0, x.shape[:2])
    padded = torch.zeros(days.shape, dtype=torch.bool)
    attention, _ = network.temporal_encoder(f, days, padded)
    gold.assert_near(attention, "mid/att")
    gold.assert_near(uncrtaints.weighted_sum(f, attention, padded), "mid/agg")


def test_seq2point_is_the_published_network(golden: Path) -> None:
    gold = Golden(golden, "seq2point_3d_n3")
    remover = seq2point.Seq2Point(seq2point.Config(features=16, blocks=2, output="as_published"), gold.weights)
    y = remover.network(torch.stack([gold[f"in/x{i}"] for i in range(3)], 1))
    gold.assert_near(y, "out/y")
    gold.assert_near(5 * (y + 1) / 2, "out/fake_B_0_5")
    loss = 100 * (y - gold["in/target"]).abs().mean()
    assert loss.item() == pytest.approx(float(gold["loss/l1x100"]), rel=1e-6)
    loss.backward()
    gold.assert_gradients(remover.network)


def test_the_single_date_baseline_is_the_published_network(golden: Path) -> None:
    gold = Golden(golden, "crts_resnet_n1")
    remover = seq2point.MonoResNet(seq2point.MonoConfig(features=16, blocks=2), gold.weights)
    y = remover.network(gold["in/x0"])
    gold.assert_near(y, "out/y")
    loss = 100 * (y - gold["in/target"]).abs().mean()
    assert loss.item() == pytest.approx(float(gold["loss/l1x100"]), rel=1e-6)
    loss.backward()
    gold.assert_gradients(remover.network)


@pytest.mark.parametrize(
    ("name", "config"), [("crts_stgan_resnet9", stgan.Config(width=4)), ("stgan_resnet_ir", stgan.Config(width=4, **IR))]
)
def test_stgan_is_the_published_network(golden: Path, name: str, config: stgan.Config) -> None:
    gold = Golden(golden, name)
    network = stgan.STGAN(config, gold.weights).network
    y = network(torch.stack([gold[f"in/x{i}"] for i in range(3)], 1))
    gold.assert_near(y, "out/y")
    loss = 100 * (y - gold["in/target"]).abs().mean()
    assert loss.item() == pytest.approx(float(gold["loss/l1x100"]), rel=1e-6)
    loss.backward()
    gold.assert_gradients(network)


def test_utilise_is_the_published_network(golden: Path) -> None:
    gold = Golden(golden, "utilise_small")
    network = utilise.UTilise(utilise.Config(encoder=(8, 8, 16), decoder=(8, 8, 16)), gold.weights).network
    y, attention = network.with_attention(gold["in/x"], gold["in/dates"])
    gold.assert_near(y, "out/y")
    gold.assert_near(attention, "out/att")
    loss = (y.flatten() * torch.arange(y.numel()).cos()).sum() / y.numel() ** 0.5
    assert loss.item() == pytest.approx(float(gold["loss/cosdot"]), abs=1e-6)
    loss.backward()
    gold.assert_gradients(network)


def test_published_sizes() -> None:
    with torch.device("meta"):
        assert params(uncrtaints.Network(uncrtaints.Config())) == 570_010
        assert params(uncrtaints.Network(uncrtaints.Config(dates=1))) == 520_218
        assert params(seq2point.Network(seq2point.Config())) == 38_474_253
        assert params(seq2point.MonoNetwork(seq2point.MonoConfig())) == 19_072_397
        assert params(stgan.generator(stgan.Config(**IR))) == 231_915_779
        assert params(stgan.generator(stgan.Config())) == 232_138_445
        tied = stgan.Config(**IR, branches="independent_as_published")
        assert params(stgan.generator(tied)) == 57_304_323
        assert params(stgan.generator(replace(tied, generator="unet"))) == 93_480_579
        assert params(utilise.Network(utilise.Config())) == 1_086_349
        wide = (64, 64, 64, 64, 128)
        assert params(utilise.Network(utilise.Config(encoder=wide, decoder=wide))) == 1_357_133


# ------------------------------------------------------------------------------------- what every series network holds

NETWORKS: dict[str, SeveralDates] = {
    "uncrtaints": uncrtaints.UnCRtainTS(uncrtaints.Config.tiny(), seed=1),
    "uncrtaints-values": uncrtaints.UnCRtainTS(replace(uncrtaints.Config.tiny(), values=True, separate_heads=True), seed=1),
    "uncrtaints-optical": uncrtaints.UnCRtainTS(replace(uncrtaints.Config.tiny(), sar=False), seed=1),
    "uncrtaints-mono": uncrtaints.UnCRtainTS(replace(uncrtaints.Config.tiny(), dates=1), seed=1),
    "seq2point": seq2point.Seq2Point(seq2point.Config.tiny(), seed=1),
    "seq2point-5": seq2point.Seq2Point(replace(seq2point.Config.tiny(), dates=5, sar=False, output="as_published"), seed=1),
    "stgan": stgan.STGAN(stgan.Config.tiny(), seed=1),
    "stgan-unet": stgan.STGAN(replace(stgan.Config.tiny(), generator="unet", branches="independent"), seed=1),
    "utilise": utilise.UTilise(utilise.Config.tiny(), seed=1),
    "utilise-sar": utilise.UTilise(replace(utilise.Config.tiny(), sar=True), seed=1),
}
EVERY = pytest.mark.parametrize("name", NETWORKS)


def close(a: torch.Tensor | None, b: torch.Tensor | None, least: float = 2e-5) -> None:
    assert a is not None and b is not None
    torch.testing.assert_close(a, b, rtol=1e-5, atol=least)


def assert_same(a: Prediction, b: Prediction) -> None:
    close(a.s2, b.s2)
    assert (a.sigma is None) == (b.sigma is None)
    if a.sigma is not None:
        close(a.sigma, b.sigma)
    assert a.source is not None and b.source is not None and torch.equal(a.source, b.source)


@EVERY
@pytest.mark.parametrize(("t", "size"), [(5, (33, 21)), (6, (40, 48))])
def test_any_size_gives_finite_reflectance(name: str, t: int, size: tuple[int, int]) -> None:
    made = NETWORKS[name](batch(series(t, size)))
    assert made.s2.shape == (1, 13, *size) and made.s2.dtype == torch.float32
    assert bool(made.s2.isfinite().all())
    assert made.support is not None and int(made.support.max()) <= t
    if name.startswith("uncrtaints"):
        assert made.sigma is not None and bool((made.sigma > 0).all())
    if name.startswith("utilise"):
        assert made.series is not None and made.series.shape == (1, t, 13, *size)
        assert torch.equal(made.series[:, t // 2], made.s2)


@EVERY
def test_the_order_of_the_dates_does_not_matter(name: str) -> None:
    b = batch(series(6, (16, 16)))
    assert_same(NETWORKS[name](b), NETWORKS[name](permuted(b, [3, 0, 5, 1, 4, 2])))


@EVERY
@pytest.mark.parametrize("value", [np.nan, 0.0, 1e30])
def test_a_date_without_measurements_changes_nothing(name: str, value: float) -> None:
    sample = series(5, (16, 16))
    assert_same(NETWORKS[name](batch(sample)), NETWORKS[name](batch(with_empty_date(sample, value))))


@pytest.mark.parametrize("name", [name for name, remover in NETWORKS.items() if remover.needs.sar == "unused"])
def test_radar_changes_nothing_where_it_is_not_used(name: str) -> None:
    with_radar, remover = series(5, (16, 16)), NETWORKS[name]
    moved = replace(with_radar, s1_dates=with_radar.s2_dates + np.array([0, 5, 1, 6, 2]).astype("timedelta64[D]"))
    without = remover(batch(replace(with_radar, s1=None, s1_valid=None, s1_dates=None)))
    for sample in (with_radar, moved):
        assert torch.equal(remover(batch(sample)).s2, without.s2)


@EVERY
def test_a_sample_that_measured_nothing_comes_back_nan_and_spoils_no_other(name: str) -> None:
    nothing = replace(series(5, (16, 16)), s2_valid=np.zeros((5, 16, 16), bool))
    made = NETWORKS[name](batch(nothing, series(5, (16, 16), seed=3)))
    assert bool(made.s2[0].isnan().all())
    close(made.s2[1:], NETWORKS[name](batch(series(5, (16, 16), seed=3))).s2)


@EVERY
def test_invalid_pixels_do_not_leak(name: str) -> None:
    sample = series(5, (16, 16))
    valid = sample.s2_valid.copy()
    valid[:, 3:6, 4:9] = False
    made = [
        NETWORKS[name](batch(replace(sample, s2_valid=valid, s2=np.where(valid[:, None], sample.s2, np.float32(v)))))
        for v in (np.nan, 0.0, 1e30)
    ]
    assert torch.equal(made[0].s2, made[1].s2) and torch.equal(made[0].s2, made[2].s2)


@EVERY
def test_two_together_equal_one_by_one(name: str) -> None:
    a, b = series(6, (16, 16), seed=1), with_empty_date(series(5, (16, 16), seed=2), 0.3)
    both = NETWORKS[name](batch(a, b))
    close(both.s2[:1], NETWORKS[name](batch(a)).s2)
    close(both.s2[1:], NETWORKS[name](batch(b)).s2)


@EVERY
def test_a_hidden_target_is_restored(name: str) -> None:
    sample = series(5, (16, 16))
    assert sample.cloud is not None
    sample.cloud[2] = 1
    made = NETWORKS[name](batch(sample))
    assert bool(made.s2.isfinite().all())


@pytest.mark.parametrize("t", [2, 30])
@pytest.mark.parametrize("name", ["uncrtaints", "utilise"])
def test_from_two_to_thirty_dates(name: str, t: int) -> None:
    assert bool(NETWORKS[name](batch(series(t, (16, 16)))).s2.isfinite().all())


def test_too_few_dates_are_refused_in_words() -> None:
    with pytest.raises(InputUnsupported, match="needs 3 or more dates; there are 2"):
        NETWORKS["seq2point"](batch(series(2)))
    with pytest.raises(InputUnsupported, match="Sentinel-1"):
        NETWORKS["uncrtaints"](batch(series(4, sar=False)))


@EVERY
def test_every_parameter_learns(name: str) -> None:
    network = NETWORKS[name].network
    network.train()
    made = NETWORKS[name](batch(series(5, (16, 16)), series(5, (16, 16), seed=3)))
    (made.s2.square().mean() + (0 if made.sigma is None else made.sigma.mean())).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None]
    network.eval()
    network.zero_grad(set_to_none=True)
    assert not without


def test_uncrtaints_padding_as_published_is_another_norm() -> None:
    config = replace(uncrtaints.Config.tiny(), as_published_padding=True)
    published = uncrtaints.UnCRtainTS(config, NETWORKS["uncrtaints"].network.state_dict())
    sample = series(5, (16, 16))
    close(published(batch(sample)).s2, NETWORKS["uncrtaints"](batch(sample)).s2)
    gap = published(batch(with_empty_date(sample, 0.0))).s2 - published(batch(sample)).s2
    assert float(gap.abs().max()) > 1e-4


def test_batch_of_one_has_no_batch_sum() -> None:
    mean, target = torch.rand(3, 4, 5, 5), torch.rand(3, 4, 5, 5)
    variance = torch.rand(3, 4, 5, 5) + 0.1
    right = uncrtaints.multivariate_nll(mean, variance, target)
    normal = torch.distributions.Independent(torch.distributions.Normal(mean.movedim(1, -1), variance.movedim(1, -1).sqrt()), 1)
    assert right.item() == pytest.approx(-normal.log_prob(target.movedim(1, -1)).mean().item(), rel=1e-5)
    apart = [uncrtaints.multivariate_nll(mean[i : i + 1], variance[i : i + 1], target[i : i + 1]).item() for i in range(3)]
    assert right.item() == pytest.approx(np.mean(apart), rel=1e-5)
    wrong = uncrtaints.multivariate_nll(mean, variance, target, as_published_batch_sum=True).item()
    extra = 0.5 * (variance.log().sum((0, 1)) - variance.log().sum(1).mean(0)).mean().item()
    assert wrong - right.item() == pytest.approx(extra, rel=1e-4)


def test_isotropic_variance_is_one_for_all_bands() -> None:
    made = uncrtaints.UnCRtainTS(replace(uncrtaints.Config.tiny(), covariance="iso"), seed=1)(batch(series(3)))
    assert made.sigma is not None and torch.equal(made.sigma[:, :1].expand_as(made.sigma), made.sigma)
    none = uncrtaints.UnCRtainTS(replace(uncrtaints.Config.tiny(), covariance="none"), seed=1)(batch(series(3)))
    assert none.sigma is None


def test_the_nearest_and_the_clearest_dates() -> None:
    sample = series(6, (16, 16))
    assert sample.cloud is not None
    sample.cloud[[2, 3]], sample.cloud[[0, 1, 4, 5]] = 1, 0
    b = batch(sample)  # the target is date 3
    assert choose_dates(b, 3, "nearest").tolist() == [[2, 3, 4]]
    assert choose_dates(b, 3, "clearest").tolist() == [[1, 4, 5]]
    remover = seq2point.Seq2Point(replace(seq2point.Config.tiny(), choose="clearest"), seed=1)
    adapted = remover.adapt(Scene.of(sample), sample.target_date)
    assert adapted.chosen(b).s2_days.tolist() == [[b.s2_days[0, i].item() for i in (1, 4, 5)]]
    assert torch.equal(adapted(b).s2, remover(b).s2)


def test_evidence_says_where_a_pixel_comes_from() -> None:
    sample = series(3, (4, 4))
    assert sample.cloud is not None
    sample.cloud[:] = 1
    sample.cloud[0, 0, 0] = 0
    made = NETWORKS["uncrtaints"](batch(sample))
    assert made.source is not None and made.age is not None and made.support is not None
    assert made.source[0, 0, 0] == Source.DATES_SAR and made.age[0, 0, 0] == -7 and made.support[0, 0, 0] == 1
    assert made.source[0, 1, 1] == Source.SAR and made.age[0, 1, 1] == NO_AGE and made.support[0, 1, 1] == 0
    plain = NETWORKS["seq2point-5"](batch(replace(with_empty_date(with_empty_date(sample, 0), 0))))
    assert plain.source is not None and plain.source[0, 1, 1] == Source.PRIOR and plain.source[0, 0, 0] == Source.DATES


def test_a_trunk_trained_on_single_dates_fits() -> None:
    mono = seq2point.MonoResNet(seq2point.MonoConfig.tiny(), seed=5).network
    for state in (mono.state_dict(), DSen2CR(DSen2CRConfig(features=8, blocks=1), seed=6).network.state_dict()):
        remover = seq2point.Seq2Point(seq2point.Config.tiny(), seed=1)
        seq2point.load_trunk(remover.network, state)
        x = torch.rand(1, 15, 9, 9)
        prefix = next(iter(state)).split("model.")[0] + "model.0.weight"
        assert torch.equal(remover.network.model_initial[0].weight, state[prefix])
        assert bool(remover.network.model_initial(x).isfinite().all())
    with pytest.raises(InputUnsupported, match="do not fit"):
        seq2point.load_trunk(
            remover.network, seq2point.MonoResNet(seq2point.MonoConfig(features=4, blocks=1)).network.state_dict()
        )
    with pytest.raises(InputUnsupported, match="single-date"):
        seq2point.load_trunk(remover.network, NETWORKS["uncrtaints"].network.state_dict())


def test_branches_are_shared_as_published_or_truly_independent() -> None:
    tied = stgan.Config(width=2, branches="independent_as_published")
    shared, apart = stgan.generator(tied), stgan.generator(replace(tied, branches="independent"))
    assert set(shared.state_dict()) == set(apart.state_dict())
    assert shared.get_submodule("model_initial_0") is shared.get_submodule("model_initial_2")
    assert apart.get_submodule("model_initial_0") is not apart.get_submodule("model_initial_2")
    one, three = params(shared.get_submodule("model_initial_0")), params(shared.get_submodule("model_intermediate_01"))
    assert params(apart) == params(shared) + 2 * one + 2 * three


def test_bands_that_stgan_does_not_restore_come_back_nan() -> None:
    remover = stgan.STGAN(stgan.Config(width=2, **IR), seed=1)
    made = remover(batch(series(3, (16, 16), IR["bands"], sar=False)))
    assert bool(made.s2[:, :3].isfinite().all()) and bool(made.s2[:, 3].isnan().all())


def test_windows_cover_every_date() -> None:
    assert utilise.windows(4, 10) == [0] and utilise.windows(10, 10) == [0]
    assert utilise.windows(30, 10) == [0, 5, 10, 15, 20] and utilise.windows(13, 4) == [0, 2, 4, 6, 8, 9]


def test_a_series_of_one_window_does_not_slide() -> None:
    sample = batch(series(4, (8, 8)))
    wide = utilise.UTilise(replace(utilise.Config.tiny(), window=30), NETWORKS["utilise"].network.state_dict())
    assert torch.equal(wide(sample).s2, NETWORKS["utilise"](sample).s2)
    long = batch(series(9, (8, 8)))
    assert not torch.allclose(wide(long).s2, NETWORKS["utilise"](long).s2)


def test_utilise_padding_as_published() -> None:
    network = NETWORKS["utilise"].network
    x, days = torch.rand(1, 4, 13, 8, 8), torch.tensor([[0.0, 5, 9, 12]])
    longer, later = torch.cat([x, torch.zeros(1, 1, 13, 8, 8)], 1), torch.cat([days, torch.zeros(1, 1)], 1)
    y = network(longer, later)
    close(y[:, :4], network(x, days))
    assert not bool(y[:, 4].any())


def test_utilise_needs_the_target() -> None:
    with pytest.raises(InputUnsupported, match="not among them"):
        NETWORKS["utilise"](batch(replace(series(3), target_index=None)))


def test_an_ensemble_adds_disagreement_to_the_variance() -> None:
    members = [uncrtaints.UnCRtainTS(uncrtaints.Config.tiny(), seed=s) for s in (1, 2, 3)]
    b = batch(series(3))
    parts = [m(b) for m in members]
    made = Ensemble(members)(b)
    s2 = torch.stack([p.s2 for p in parts])
    sigma = torch.stack([p.sigma for p in parts if p.sigma is not None])
    close(made.s2, s2.mean(0))
    close(made.sigma, (sigma.square().mean(0) + s2.var(0, correction=0)).sqrt())
    with pytest.raises(UsageError):
        Ensemble([])
    with pytest.raises(UsageError, match="same needs"):
        Ensemble([members[0], NETWORKS["utilise"]])


def test_a_single_date_network_applied_to_every_date() -> None:
    mono = seq2point.MonoResNet(seq2point.MonoConfig.tiny(), seed=1)
    sample = with_empty_date(series(3), np.nan)
    made = PerDate(mono)(batch(sample))
    assert made.series is not None and made.series.shape == (1, 4, 13, 16, 16)
    alone = replace(series(3), target_index=0, target_date=sample.s2_dates[0])
    close(made.series[:, 0], mono(batch(alone)).s2)
    assert torch.equal(made.s2, mono(batch(sample)).s2) and bool(made.series[:, 3].isnan().all())
