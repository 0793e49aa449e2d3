"""Internal learning: the loss, the held-out blocks, the fit, and what a remover must hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.series_fakes import batch, permuted, series, with_empty_date
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, UsageError
from unclouded.models.internal_learning import (
    BLOCK,
    Config,
    Fit,
    InternalLearning,
    held_out,
    masked_square,
    perceptual,
    time_windows,
    unrest,
    widths_for,
)
from unclouded.models.internal_network import SLOPE, ClearNorm, DatesConv, Network, NormLeaky
from unclouded.models.scene_solver import Cube
from unclouded.models.vgg import Encoder, encoder
from unclouded.models.winograd import Ends, over_dates, over_dates_of_double
from unclouded.sample import Sample, Source, Window
from unclouded.scenes.scene import Scene

TINY = Config.tiny()


def place(size: int = 24, t: int = 5, seed: int = 0) -> tuple[Sample, np.ndarray]:
    """Fields that radar can tell apart, seen through opaque clouds, without change over time."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, (size // 8, size // 8)).repeat(8, 0).repeat(8, 1)
    truth = np.array([[0.05, 0.3], [0.15, 0.45], [0.3, 0.2]], np.float32)[kind].transpose(2, 0, 1)
    fake = series(t, (size, size), ("B04", "B08"), seed=seed)
    db = np.array([-20, -12, -6], np.float32)[kind]
    assert fake.cloud is not None and fake.s1 is not None
    s1 = np.broadcast_to(db, fake.s1.shape).astype(np.float32)
    s2 = np.where(fake.cloud[:, None] >= 0.5, np.float32(0.9), truth).astype(np.float32)
    return replace(fake, s2=s2, s1=s1), truth


def test_it_learns_the_ground_and_not_the_clouds() -> None:
    sample, truth = place()
    assert sample.cloud is not None
    sample.cloud[2] = 1  # the target is wholly hidden
    sample.s2[2] = 0.9
    told: list[tuple[int, int, float]] = []
    config = replace(TINY, passes=4, iterations=40, held_out=0.05)
    made = InternalLearning(config, progress=lambda *now: told.append(now))(batch(sample))
    error = float((made.s2[0] - torch.from_numpy(truth)).square().mean().sqrt())
    assert error < 0.05
    assert told[-1][0] <= told[-1][1] == 160 and [t[0] for t in told] == sorted(t[0] for t in told)
    assert told[-1][2] < 0.5 * told[0][2]


def test_radar_tells_more_than_noise_where_nothing_was_seen() -> None:
    sample, truth = place(seed=3)
    assert sample.cloud is not None
    sample.cloud[:, :, 16:] = 1
    sample.s2[:, :, :, 16:] = 0.9
    found = {
        drive: InternalLearning(replace(TINY, drive=drive, passes=3, iterations=40, held_out=0.0))(batch(sample)).s2[0].numpy()
        for drive in ("s1", "noise")
    }
    error = {drive: float(np.sqrt(np.mean((made - truth)[:, :, 16:] ** 2))) for drive, made in found.items()}
    assert error["s1"] < 0.6 * error["noise"]


@pytest.mark.parametrize("drive", ["s1", "noise"])
def test_hidden_values_seeds_and_order(drive: str) -> None:
    sample, _ = place(16)
    assert sample.cloud is not None
    solver = InternalLearning(replace(TINY, drive=drive))
    wanted = solver(batch(sample)).s2
    unseen = ~sample.clear()[:, None]
    for value in (np.nan, 1e30):
        leaky = replace(sample, s2=np.where(unseen, np.float32(value), sample.s2))
        assert torch.equal(solver(batch(leaky)).s2, wanted)
    assert torch.equal(solver(permuted(batch(sample), [3, 0, 1, 4, 2])).s2, wanted)
    assert torch.equal(solver(batch(with_empty_date(sample, 0.7))).s2, wanted)
    other = InternalLearning(replace(TINY, drive=drive, seed=1))(batch(sample)).s2
    assert not torch.allclose(other, wanted)


def test_global_random_state_and_gradient_mode_are_left_alone() -> None:
    sample, _ = place(16)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    with torch.no_grad():
        InternalLearning(TINY)(batch(sample))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("t", "size"), [(2, (16, 16)), (30, (8, 8)), (3, (13, 19))])
def test_any_number_of_dates_and_any_size(t: int, size: tuple[int, int]) -> None:
    sample = series(t, size, ("B02", "B08"))
    made = InternalLearning(replace(TINY, passes=1, iterations=2, dates=30))(batch(sample))
    assert made.series is not None and made.series.shape == (1, t, 2, *size) and bool(made.series.isfinite().all())
    assert float(made.s2.min()) >= 0 and float(made.s2.max()) <= 1
    assert made.source is not None and int(made.source.max()) <= Source.SAR


@pytest.mark.parametrize(("sar", "seen", "blind"), [(True, Source.DATES_SAR, Source.SAR), (False, Source.DATES, Source.PRIOR)])
def test_radar_is_named_as_a_source_where_there_was_some(sar: bool, seen: Source, blind: Source) -> None:
    sample = series(3, (8, 8), ("B02", "B08"), sar=sar)
    assert sample.cloud is not None
    sample.cloud[:] = 0
    sample.cloud[:, 0, 0] = 1
    made = InternalLearning(replace(TINY, passes=1, iterations=2))(batch(sample))
    assert made.source is not None and made.source[0, 1, 1] == seen and made.source[0, 0, 0] == blind


def test_a_scene_is_the_same_however_it_is_cut() -> None:
    sample = series(3, (30, 34), ("B02", "B08"), seed=2)
    scene, date = Scene.of(sample), sample.target_date
    assert date is not None
    remover = InternalLearning(replace(TINY, passes=1, iterations=3)).adapt(scene, date)
    whole = remover(batch(scene.read(target=date))).s2
    part = remover(batch(scene.read(Window(3, 17, 20, 11), target=date))).s2
    assert torch.equal(part, whole[..., 3:23, 17:28]) and bool(whole.isfinite().all())


def test_nothing_clear_is_refused() -> None:
    sample = series(3, (8, 8), ("B02", "B08"))
    assert sample.cloud is not None
    sample.cloud[:] = 1
    made = InternalLearning(TINY)(batch(sample))
    assert bool(made.s2.isnan().all()) and made.source is not None and bool((made.source == Source.REFUSED).all())


def test_radar_is_required_where_asked_for() -> None:
    sample = batch(series(3, (8, 8), ("B02", "B08"), sar=False))
    with pytest.raises(InputUnsupported, match="Sentinel-1"):
        InternalLearning(replace(TINY, drive="s1"))(sample)
    assert bool(InternalLearning(replace(TINY, passes=1, iterations=1))(sample).s2.isfinite().all())


def test_it_stops_when_the_held_out_pixels_get_no_better() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((5, 2, 16, 16)).astype(np.float32)  # nothing to learn
    clear = np.ones((5, 16, 16), bool)
    told: list[int] = []
    config = replace(TINY, passes=60, iterations=10, patience=2, drive="noise", held_out=0.3)
    Fit(Cube(x=x, valid=clear, clear=clear, days=np.arange(5)), config, lambda done, *_: told.append(done)).run()
    assert told[-1] < 600
    all_told: list[int] = []
    Fit(
        Cube(x=x, valid=clear, clear=clear, days=np.arange(5)), replace(config, passes=4, held_out=0.0),
        lambda done, *_: all_told.append(done),
    ).run()  # fmt: skip
    assert all_told[-1] == 40


def test_windows_of_dates_share_some_and_cover_all() -> None:
    assert time_windows(3, 5, 2) == [slice(0, 3)] and time_windows(5, 5, 2) == [slice(0, 5)]
    assert time_windows(12, 5, 2) == [slice(0, 5), slice(3, 8), slice(6, 11), slice(7, 12)]
    with pytest.raises(UsageError):
        Config(shared=5)


def test_held_out_blocks_are_wholly_clear() -> None:
    clear = np.ones((3, 40, 45), bool)
    clear[0, :12, :9] = False
    held = held_out(clear, 0.4, 0)
    assert not (held & ~clear).any() and 0.2 < held.mean() < 0.6
    assert not held[0, :16, :16].any() and not held[:, :, 40:].any()
    blocks = held[:, :40, :40].reshape(3, 5, BLOCK, 5, BLOCK)
    assert ((blocks.mean((2, 4)) == 0) | (blocks.mean((2, 4)) == 1)).all()
    assert not held_out(clear, 0.0, 0).any()


def test_a_date_hidden_as_a_whole_lies_between_its_neighbours() -> None:
    output = torch.zeros(3, 1, 2, 2)
    output[1] = 0.5
    clear = torch.ones(3, 1, 2, 2, dtype=torch.bool)
    assert float(unrest(output, clear)) == 0
    clear[1, :, 0] = False
    assert float(unrest(output, clear)) == pytest.approx(0.25)


def test_hidden_pixels_do_not_shift_the_others_through_a_norm() -> None:
    norm = ClearNorm(4)
    x = torch.rand(3, 4, 6, 6)
    everywhere = torch.full((3, 1, 6, 6), 1 / 108)
    one = functional.instance_norm(x.movedim(0, 1)[None])[0].movedim(1, 0)  # over all dates
    torch.testing.assert_close(norm(x, everywhere), functional.leaky_relu(one, SLOPE), atol=1e-4, rtol=1e-4)
    clear = everywhere.clone()
    clear[..., 3:] = 0
    other = x.clone()
    other[..., 3:] = 100
    torch.testing.assert_close(norm(x, 2 * clear)[..., :3], norm(other, 2 * clear)[..., :3])


def test_the_derivative_of_norm_and_activation() -> None:
    draw = torch.Generator().manual_seed(0)
    x, share, weight, bias = (
        torch.randn(size, generator=draw, dtype=torch.float64) for size in ((3, 2, 4, 5), (3, 1, 4, 5), (2,), (2,))
    )
    share = share.abs() / share.abs().sum()
    given = [v.requires_grad_() for v in (x, weight, bias)]
    assert torch.autograd.gradcheck(lambda a, w, b: NormLeaky.apply(a.clone(), share, w, b, ((0, -1), (0,))), given)


def test_repeated_ends_do_not_tell_which_date_it_is() -> None:
    network = Network(2, 3, (4, 8))
    still = torch.rand(1, 2, 16, 16).expand(5, -1, -1, -1)
    clear = torch.ones(5, 1, 16, 16)
    y = network(still, clear).detach()
    torch.testing.assert_close(y, y[:1].expand_as(y), atol=1e-5, rtol=1e-4)
    zero_padded = Network(2, 3, (4, 8), published=True)(still, clear).detach()
    assert not torch.allclose(zero_padded[0], zero_padded[2], atol=1e-3)


@pytest.mark.parametrize("ends", ["repeat", "zero"])
@pytest.mark.parametrize(("dates", "stride"), [(1, 1), (2, 2), (3, 1), (5, 1), (5, 2), (6, 1), (11, 1)])
def test_fewer_products_give_the_convolution(dates: int, stride: int, ends: Ends) -> None:
    draw = torch.Generator().manual_seed(dates)
    x = torch.randn(dates, 6, 8, 10, generator=draw).requires_grad_()
    weight = torch.randn(4, 6, 3, 3, 3, generator=draw).requires_grad_()
    longer = functional.pad(x.movedim(0, 1)[None], (0, 0, 0, 0, 1, 1), mode="replicate" if ends == "repeat" else "constant")
    wanted = functional.conv3d(longer, weight, None, (1, stride, stride), (0, 1, 1))[0].movedim(1, 0)
    found = over_dates(x, weight, stride, ends)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    toward = torch.randn(wanted.shape, generator=draw)
    for a, b in zip(
        torch.autograd.grad(found, (x, weight), toward), torch.autograd.grad(wanted, (x, weight), toward), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("size", "stride"), [((8, 9), 1), ((8, 9), 2), ((7, 6), 2)])
def test_sums_at_the_border_are_as_large_as_those_inside(size: tuple[int, int], stride: int) -> None:
    draw = torch.Generator().manual_seed(4)
    layer, norm = DatesConv(2, 3, stride, "repeat"), ClearNorm(3)
    x = torch.rand(4, 2, *size, generator=draw).requires_grad_()
    ones = torch.ones(1, 1, *size)
    taps = functional.conv2d(ones, torch.ones(1, 1, 3, 3), stride=stride, padding=1)  # of 9
    share = torch.full((4, 1, *taps.shape[2:]), 1 / (4 * taps.numel()))
    found = norm(layer(x), share, layer.border(x))
    wanted = norm(layer(x) * (9 / taps), share)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    toward = torch.rand(wanted.shape, generator=draw)
    a, b = (torch.autograd.grad(y, x, toward)[0] for y in (found, wanted))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert DatesConv(2, 3, stride, "zero").border(x) == ((), ())


def test_norms_are_the_same_however_many_dates_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(2)
    norm, share = ClearNorm(3), torch.rand(5, 1, 8, 9, generator=draw)
    results = []
    for values in (1, 2 * 3 * 8 * 9, 1 << 20):
        monkeypatch.setattr("unclouded.models.internal_network.IN_CACHE", values)
        x = torch.rand(5, 3, 8, 9, generator=torch.Generator().manual_seed(3)).requires_grad_()
        made = norm(x * 1, share / share.sum())
        results.append((made, *torch.autograd.grad(made.square().sum(), (x, norm.weight, norm.bias))))
    for found in results[:2]:
        torch.testing.assert_close(found, results[2], atol=1e-4, rtol=1e-5)
    assert float(results[2][1].abs().max()) > 1e-3


def test_fewer_products_of_repeated_pixels() -> None:
    draw = torch.Generator().manual_seed(1)
    fine, coarse = torch.randn(5, 3, 8, 14, generator=draw), torch.randn(5, 6, 4, 7, generator=draw)
    weight = torch.randn(4, 9, 3, 3, 3, generator=draw)
    learnt = [v.requires_grad_() for v in (fine, coarse, weight)]
    repeated = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    wanted = over_dates(torch.cat([fine, repeated], 1), weight, 1, "repeat")
    found = over_dates_of_double(fine, coarse, weight, "repeat")
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    toward = torch.randn(wanted.shape, generator=draw)
    a, b = (torch.autograd.grad(y, learnt, toward) for y in (found, wanted))
    torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("size", [(16, 24), (13, 19)])
@pytest.mark.parametrize("published", [False, True])
def test_the_network_by_fewer_products_and_by_definition(size: tuple[int, int], published: bool) -> None:
    torch.manual_seed(0)
    network = Network(2, 3, (4, 8, 8), published)
    x, clear = torch.rand(5, 2, *size), (torch.rand(5, 1, *size) > 0.3).float()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        coarse = network(x, clear).float()  # definition, in bfloat16
    torch.testing.assert_close(network(x, clear).detach(), coarse, atol=0.03, rtol=0)


def test_small_images_take_fewer_levels() -> None:
    assert widths_for((8, 16, 32, 64), (256, 256)) == (8, 16, 32, 64)
    assert widths_for((8, 16, 32, 64), (16, 99)) == (8, 16, 32) and widths_for((8, 16), (5, 5)) == (8,)


def test_every_parameter_learns() -> None:
    network = Network(2, 3, (4, 8, 8))
    y = network(torch.rand(3, 2, 16, 16), torch.rand(3, 1, 16, 16))
    assert y.shape == (3, 3, 16, 16) and float(y.detach().min()) >= 0 and float(y.detach().max()) <= 1
    y.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_loss_sees_clear_pixels_only() -> None:
    output, truth = torch.rand(3, 2, 8, 8), torch.rand(3, 2, 8, 8)
    clear = torch.rand(3, 1, 8, 8) > 0.5
    wanted = (output - truth).square()[clear.expand_as(output)].mean()
    assert masked_square(output, truth, clear).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert masked_square(output, truth, torch.zeros_like(clear)).item() == 0


def test_perceptual_features_far_from_clouds_only() -> None:
    features = encoder("random", 2, 0)
    assert features is not None
    output, truth = torch.rand(2, 2, 32, 32), torch.rand(2, 2, 32, 32)
    clear = torch.ones(2, 1, 32, 32, dtype=torch.bool)
    assert float(perceptual(features, truth, features(truth), clear)) == 0
    assert float(perceptual(features, output, features(truth), clear)) > 0
    assert float(perceptual(features, output, features(truth), ~clear)) == 0


def test_the_encoder_is_off_random_or_from_a_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    assert encoder("off", 13, 0) is None
    a, b, c = encoder("random", 4, 0), encoder("random", 4, 0), encoder("random", 4, 1)
    assert a is not None and b is not None and c is not None
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))
    assert [f.shape[1:] for f in a(torch.rand(1, 4, 16, 16))] == [(16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert sum(p.numel() for p in Encoder(3).parameters()) == 7_635_264  # VGG16 up to the fourth block
    small = Encoder(4)
    save_file(small.state_dict(), tmp_path / "e.safetensors")
    read = encoder(str(tmp_path / "e.safetensors"), 4, 0)
    assert read is not None and torch.equal(next(read.parameters()), next(small.parameters()))
    with pytest.raises(InputUnsupported, match="do not fit"):
        encoder(str(tmp_path / "e.safetensors"), 5, 0)
    with pytest.raises(InputMissing):
        encoder(str(tmp_path / "none.safetensors"), 4, 0)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(InputCorrupt):
        encoder(str(tmp_path / "broken.safetensors"), 4, 0)


def test_options_change_the_result() -> None:
    sample = batch(place(16)[0])
    config = replace(TINY, held_out=0.0)
    base = InternalLearning(config)(sample).s2
    for change in (
        {"drive": "noise"}, {"dates": 3}, {"rate": 0.02}, {"jitter": 0.0}, {"widths": (8,)}, {"held_out": 0.5}, {"window": 3},
        {"perceptual": "random"}, {"as_published": True}, {"quiet": 0.0}, {"choose": "clearest", "dates": 3}, {"passes": 1},
    ):  # fmt: skip
        assert not torch.equal(InternalLearning(replace(config, **change))(sample).s2, base), change


def test_bfloat16_keeps_the_result() -> None:
    sample, truth = place(16)
    config = replace(TINY, passes=3, iterations=30)
    made = [InternalLearning(replace(config, arithmetic=a))(batch(sample)).s2[0].numpy() for a in ("auto", "float32")]
    errors = [float(np.sqrt(np.mean((m - truth) ** 2))) for m in made]
    assert errors[0] < errors[1] + 0.03
