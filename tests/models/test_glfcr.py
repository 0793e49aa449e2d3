"""GLF-CR against the released code: prediction, intermediates, gradients; its parts against plain definitions; any size."""

from __future__ import annotations

import pytest
import torch

from models.parity import Golden
from unclouded.models import glfcr, window_attention
from unclouded.models.glfcr import GLFCR, Config, Network, despeckled, dynamic_filter
from unclouded.models.published import without_buffers
from unclouded.models.window_attention import shift_mask

REDUCED = Config(features=16, blocks=2, layers=2, growth=16, variant="as_published")


@pytest.fixture(scope="module")
def reduced(golden):
    g = Golden(golden, "glfcr_reduced")
    return g, GLFCR(REDUCED, without_buffers(g.group("w"))).network


def test_prediction_and_gradients(reduced):
    g, net = reduced
    pred = net(g("in/cloudy"), g("in/sar"))
    g.check(pred, "out/pred")
    loss = (pred - g("in/target")).abs().mean()
    assert float(loss.detach()) == pytest.approx(float(g("loss/l1")), rel=1e-6)
    loss.backward()
    g.check_gradients(net)
    silent = {n for n, p in net.named_parameters() if p.grad is None}
    assert silent == {"opt_distribute_1x1conv.1.weight", "opt_distribute_1x1conv.1.bias"}


def test_intermediates(reduced):
    g, net = reduced
    seen = {}

    def keep(name):
        def hook(module, inputs, output):
            seen[name] = (inputs, output)

        return hook

    handles = [
        m.register_forward_hook(keep(n)) for n, m in net.named_modules() if n in ("SFENet1", "RDBs.0", "RDBs.1", "DF.0", "DF.1")
    ]
    with torch.no_grad():
        net(g("in/cloudy"), g("in/sar"))
    for handle in handles:
        handle.remove()
    g.check(seen["SFENet1"][1], "mid/SFENet1")
    for i in range(2):
        (x, s), _ = seen[f"DF.{i}"]
        g.check(seen[f"RDBs.{i}"][1][0], f"mid/RDB{i}_opt")
        g.check(seen[f"RDBs.{i}"][1][1], f"mid/RDB{i}_sar")
        filters = net.DF[i].fac_warp(torch.cat([x, s], 1))
        g.check(filters, f"mid/DF{i}_kernel")
        g.check(seen[f"DF.{i}"][1], f"mid/DFR{i}_out")
        g.check(dynamic_filter(s, filters), f"mid/DFR{i}_out")


def test_dynamic_filter(golden):
    g = Golden(golden, "glfcr_fac")
    g.check(dynamic_filter(g("in/feat"), g("in/kernel")), "out/y")


def test_filters_made_in_chunks_are_the_same(reduced, monkeypatch):
    g, net = reduced
    with torch.no_grad():
        whole = net(g("in/cloudy"), g("in/sar"))
        monkeypatch.setattr(glfcr, "FILTER_VALUES_AT_ONCE", 1)
        monkeypatch.setattr(window_attention, "WINDOWS_IN_CACHE", 3)
        assert torch.allclose(net(g("in/cloudy"), g("in/sar")), whole, atol=1e-6)


def test_shift_mask_by_definition():
    h, w, n, shift = 16, 24, 8, 4
    mask = shift_mask(h, w, n, shift)
    part = lambda i, size: 0 if i < size - n else 1 if i < size - shift else 2  # noqa: E731
    for window, p, q in [(0, 0, 63), (2, 3, 4), (5, 10, 60), (5, 0, 63), (3, 7, 56)]:
        y, x = divmod(window, w // n)
        at = [(y * n + t // n, x * n + t % n) for t in (p, q)]
        same = part(at[0][0], h) == part(at[1][0], h) and part(at[0][1], w) == part(at[1][1], w)
        assert float(mask[window, p, q]) == (0 if same else -100)


def test_no_shift_on_one_window(reduced):
    """A map no larger than a window is attended as it is, whatever the layer; a larger one is shifted in odd layers."""
    _, net = reduced
    attention = net.RDBs[0].convs[1].attn

    def both(h, w):
        tokens = torch.rand(2, 1, h, w, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            shifted = attention(*tokens)[0]
            attention.shifted = False
            still = attention(*tokens)[0]
            attention.shifted = True
        return shifted, still

    assert torch.equal(*both(8, 8))
    assert torch.equal(*both(8, 16))
    assert not torch.allclose(*both(16, 16), atol=1e-4)


def test_weights_do_not_depend_on_the_size(reduced):
    _, net = reduced
    with torch.no_grad():
        assert net(torch.rand(1, 13, 48, 80), torch.rand(1, 2, 48, 80)).shape == (1, 13, 48, 80)


def test_despeckled_is_the_median():
    s1 = torch.randn(1, 2, 9, 12, generator=torch.Generator().manual_seed(0))
    ours = despeckled(s1, 5)
    assert float(ours[0, 1, 4, 6]) == float(s1[0, 1, 2:7, 4:9].median())
    grown = torch.nn.functional.pad(s1, (2, 2, 2, 2), mode="reflect")
    assert float(ours[0, 0, 0, 0]) == float(grown[0, 0, :5, :5].median())
    assert float(ours[0, 0, 8, 11]) == float(grown[0, 0, 8:13, 11:16].median())


def test_drop_path_keeps_the_mean():
    torch.manual_seed(0)
    kept = glfcr.drop_path(torch.ones(4000, 1, 1, 1), 0.2, training=True)
    assert set(kept.flatten().tolist()) == {0.0, 1.25}
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    rates = [layer.drop for block in Network(REDUCED).RDBs for layer in block.convs]
    assert rates == pytest.approx([0, 0.2 / 3, 0.4 / 3, 0.2])


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (Config(variant="as_published"), 14.827373),
        (Config(), 11.946541),
    ],
)
def test_published_size(config, millions):
    with torch.device("meta"):
        assert sum(p.numel() for p in Network(config).parameters()) == round(millions * 1e6)


def test_what_each_ablation_leaves_out():
    def names(ablation):
        with torch.device("meta"):
            return {n for n, _ in Network(Config(variant="as_published", ablation=ablation)).named_parameters()}

    full = names("full")
    assert {n for n in full if "SAR" in n or "DF" in n or "1x1conv" in n} == full - names("without_sar")
    assert names("concat") == names("without_sar")
    assert full - names("without_stl") == {n for n in full if "attn" in n or "mlp" in n or "norm" in n}
    assert full - names("without_gf") == {n for n in full if "attn_fuse" in n}
    assert full - names("without_df") == full - names("despeckled") == {n for n in full if n.startswith("DF")}


def test_gate_of_the_paper_sums_to_one():
    net = Network(Config.tiny())
    assert torch.allclose(net._gate(torch.randn(1, 8, 4, 4)).sum(1), torch.ones(1, 4, 4), atol=1e-6)
