"""Import of the authors' files of series networks: files in their layout, made from golden weights, give their outputs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.series_fakes import Golden
from unclouded.bands import L1C
from unclouded.errors import InputUnsupported, RefusedForSafety, UsageError
from unclouded.models import published, seq2point, stgan, uncrtaints, utilise, weights


def imported(kind: str, content: dict[str, Any], folder: Path) -> Any:
    """A checkpoint of that content, imported and opened again."""
    torch.save(content, folder / "theirs.pth")
    record = published.import_file(kind, folder / "theirs.pth", folder / "ours.safetensors")
    assert len(record.sha256) == 64 and record.licence and record.url.startswith("https://")
    return weights.load(folder / "ours.safetensors")


@pytest.mark.parametrize("name", ["diag_b1", "iso", "mono"])
def test_uncrtaints(golden: Path, tmp_path: Path, name: str) -> None:
    gold = Golden(golden, f"uncrtaints_{name}")
    whole = {f"netG.{k}": v for k, v in gold.weights.items()}
    content = {
        "epoch": 20, "state_dict": whole, "state_dict_G": gold.weights,
        "optimizer_G": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]},
        "scheduler_G": {"gamma": 0.8},
    }  # fmt: skip
    remover = imported("uncrtaints", content, tmp_path)
    c = remover.config
    assert (c.width, c.blocks_before, c.blocks_after, c.covariance) == (16, 1, 2, "iso" if name == "iso" else "diag")
    assert c.sar and c.as_published_padding and c.dates == (1 if name == "mono" else None)
    if name != "mono":
        assert (c.heads, c.model_width, c.key_width, c.values) == (4, 32, 4, False)
    with torch.no_grad():
        y = remover.network(gold["in/x_scaled"], gold["in/dates"])
    gold.assert_near(y.reshape(gold["out/y"].shape), "out/y")


def test_uncrtaints_with_values_and_separate_heads(golden: Path) -> None:
    gold = Golden(golden, "uncrtaints_usev_sep")
    config, state = published.torch_uncrtaints(gold.weights)
    assert config.values and config.separate_heads and config.covariance == "diag"
    network = uncrtaints.UnCRtainTS(replace(config, scale_by=1.0), state).network  # not told by the file
    with torch.no_grad():
        y = network(gold["in/x_scaled"], gold["in/dates"])
    gold.assert_near(y.reshape(gold["out/y"].shape), "out/y")


def test_utilise(golden: Path, tmp_path: Path) -> None:
    gold = Golden(golden, "utilise_small")
    remover = imported("utilise", {"epoch": 1, "model_state_dict": gold.weights}, tmp_path)
    assert remover.config == utilise.Config(encoder=(8, 8, 16), decoder=(8, 8, 16))
    with torch.no_grad():
        gold.assert_near(remover.network(gold["in/x"], gold["in/dates"]), "out/y")
    wide = utilise.Config(encoder=(4, 8, 12), decoder=(8, 16, 12))
    config, _ = published.torch_utilise(utilise.UTilise(wide).network.state_dict(), heads=4)
    assert config == wide


def test_utilise_with_radar_is_refused() -> None:
    state = utilise.UTilise(replace(utilise.Config.tiny(), sar=True)).network.state_dict()
    with pytest.raises(ValueError, match="not 15 and 13"):
        published.torch_utilise(state, heads=4)


def test_seq2point(golden: Path, tmp_path: Path) -> None:
    gold = Golden(golden, "seq2point_3d_n3")
    remover = imported("seq2point", {f"module.{k}": v for k, v in gold.weights.items()}, tmp_path)
    c = remover.config
    assert (c.features, c.blocks, c.dates, c.sar, c.output) == (16, 2, 3, True, "as_published")
    with torch.no_grad():
        gold.assert_near(remover.network(torch.stack([gold[f"in/x{i}"] for i in range(3)], 1)), "out/y")
    four, _ = published.torch_seq2point(seq2point.Seq2Point(replace(seq2point.Config.tiny(), dates=4)).network.state_dict())
    assert four.dates == 4


@pytest.mark.parametrize(("name", "bands", "restored"), [("crts_stgan_resnet9", 13, None), ("stgan_resnet_ir", 4, 3)])
def test_stgan(golden: Path, tmp_path: Path, name: str, bands: int, restored: int | None) -> None:
    gold = Golden(golden, name)
    remover = imported("stgan", dict(gold.weights), tmp_path)
    c = remover.config
    assert (c.width, len(c.bands), c.sar, c.relu_after) == (4, bands, bands == 13, bands == 13)
    assert (None if c.restores is None else len(c.restores)) == restored
    with torch.no_grad():
        gold.assert_near(remover.network(torch.stack([gold[f"in/x{i}"] for i in range(3)], 1)), "out/y")


@pytest.mark.parametrize("generator", ["resnet", "unet"])
@pytest.mark.parametrize("branches", ["shared", "independent_as_published", "independent"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_every_form_of_stgan_is_told_by_its_tensors(generator: Any, branches: Any, norm: Any) -> None:
    made = stgan.Config(width=2, levels=5 if generator == "unet" else 8, generator=generator, branches=branches, norm=norm)
    assert published.torch_stgan(stgan.STGAN(made, seed=2).network.state_dict())[0] == made


@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_branches_that_share_tensors_are_saved_and_opened(generator: Any, tmp_path: Path) -> None:
    config = stgan.Config(width=2, levels=5, generator=generator, branches="independent_as_published")
    remover = stgan.STGAN(config, seed=3)
    weights.save(tmp_path / "w.safetensors", "stgan", remover)
    again = weights.load(tmp_path / "w.safetensors")
    x = torch.rand(1, 3, 15, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again.network(x), remover.network(x))
    name = "down1.model" if generator == "unet" else "model_initial"
    assert again.network.get_submodule(f"{name}_0") is again.network.get_submodule(f"{name}_2")


class Trap:
    """Would make a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("kind", ["uncrtaints", "utilise"])
def test_code_in_a_file_is_not_executed(kind: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedForSafety, match="more than tensors"):
        imported(kind, {"state_dict": {"a": torch.zeros(1)}, "config": Trap(tmp_path / "sprung")}, tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_tensor_more_is_told_by_its_name(golden: Path, tmp_path: Path) -> None:
    gold = Golden(golden, "utilise_small")
    with pytest.raises(InputUnsupported, match=r"unknown extra\.weight"):
        imported("utilise", gold.weights | {"extra.weight": torch.zeros(2)}, tmp_path)


def test_uncrtaints_is_told_what_its_file_does_not_tell(golden: Path, tmp_path: Path) -> None:
    gold = Golden(golden, "uncrtaints_usev_sep")
    file, out = tmp_path / "published.pth", tmp_path / "out.safetensors"
    torch.save({"state_dict_G": gold.weights}, file)
    published.import_file("uncrtaints", file, out, {"scale_by": 1})
    remover = weights.load(out)
    assert remover.config.scale_by == 1.0
    with torch.no_grad():
        gold.assert_near(remover.network(gold["in/x_scaled"], gold["in/dates"]).reshape(gold["out/y"].shape), "out/y")
    published.import_file("uncrtaints", file, out)
    assert weights.load(out).config.scale_by == 10.0
    for wrong, words in (({"scale_by": "ten"}, "scale_by"), ({"width": 8}, "not told 'width'"), ({"variance": "elo"}, "elu")):
        with pytest.raises(UsageError, match=words):
            published.import_file("uncrtaints", file, out, wrong)


def test_the_heads_of_utilise_decide_how_wide_its_keys_are(tmp_path: Path) -> None:
    made = utilise.UTilise(utilise.Config(encoder=(8, 8), decoder=(8, 8), heads=8, key_width=4), seed=1)
    torch.save(made.network.state_dict(), tmp_path / "u.pth")
    published.import_file("utilise", tmp_path / "u.pth", tmp_path / "u.safetensors", {"heads": 8})
    assert weights.load(tmp_path / "u.safetensors").config == made.config
    with pytest.raises(InputUnsupported, match="ublished layout"):
        published.import_file("utilise", tmp_path / "u.pth", tmp_path / "u.safetensors", {"heads": 3})


def test_older_files_of_uncrtaints_count_their_blocks() -> None:
    config = replace(uncrtaints.Config.tiny(), blocks_before=2, blocks_after=3, as_published_padding=True)
    state = uncrtaints.UnCRtainTS(config, seed=2).network.state_dict()
    older = {re.sub(r"^(in|out)_block\.(\d+)", lambda m: f"{m[1]}_block{int(m[2]) + 1}", k): v for k, v in state.items()}
    assert "out_block3.conv.norm.weight" in older
    found, renamed = published.torch_uncrtaints(older)
    assert found == config and set(renamed) == set(state)


@pytest.mark.parametrize(("covariance", "sar"), [("diag", True), ("iso", False), ("none", True)])
@pytest.mark.parametrize("bands", [L1C, published.RGB])
def test_one_head_tells_bands_and_variances_apart(covariance: str, sar: bool, bands: tuple[str, ...]) -> None:
    tiny = uncrtaints.Config.tiny()
    config = replace(tiny, bands=bands, covariance=covariance, sar=sar, as_published_padding=True)  # type: ignore[arg-type]
    found, _ = published.torch_uncrtaints(uncrtaints.Network(config).state_dict())
    assert found == config
