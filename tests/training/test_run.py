"""Every recipe trains; what a run leaves behind can be used; and every way to misuse one is explained."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from training.tiny import tiny
from unclouded.datasets.simulated import simulate
from unclouded.errors import InputMissing, UsageError
from unclouded.models import weights, zoo
from unclouded.products.fill import Limits
from unclouded.raster import open_raster, read
from unclouded.remove import restore
from unclouded.sample import Batch
from unclouded.scenes.scene import Scene
from unclouded.training.begin import build_remover, load_run
from unclouded.training.data import SIMULATED, Steps, open_data
from unclouded.training.recipe import Train, read_recipe, recipes
from unclouded.training.run import train
from unclouded.training.task import TrainingDiverged, make_optimizer

STARTS = {  # what the frozen part of a recipe was trained by
    "seq2point": "resnet-mono", "seq2point-4": "resnet-mono", "seq2point-5": "resnet-mono",
    "seq2point-no-perceptual": "resnet-mono", "seq2point-no-sar": "dsen2cr-l1-no-sar", "drib-unet-unet": "drib-sar2opt-unet",
    "drib-drib-unet": "drib-sar2opt-unet", "drib-l1-l1": "drib-sar2opt-l1", "drib-ssim-l1-on-l1": "drib-sar2opt-l1",
    "drib-ssim-ssim": "drib-sar2opt-ssim", "drib": "drib-sar2opt", "drib-unet-drib": "drib-sar2opt",
    "drib-l1-on-ssim-l1": "drib-sar2opt",
}  # fmt: skip


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A finished two-step run of a recipe, made once."""
    made = {}

    def make(name, *overrides):
        if (name, overrides) not in made:
            out = tmp_path_factory.mktemp(name) / "run"
            made[name, overrides] = train(tiny(name, *overrides), SIMULATED, out)
        return made[name, overrides]

    return make


def started(name, run_of):
    """The recipe with its frozen part trained."""
    if name not in STARTS:
        return tiny(name)
    size = ("model.set.blocks=1",) if name == "seq2point-no-sar" else ()
    overrides = [f"model.start={run_of(STARTS[name], *size).folder}"]
    if name.startswith("seq2point"):
        overrides.append("train.freeze_steps=1")
    return tiny(name, *overrides)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_takes_two_steps(name, run_of, tmp_path):
    recipe = started(name, run_of)
    chance = torch.random.get_rng_state()
    run = train(recipe, SIMULATED, tmp_path / "run")
    assert torch.equal(chance, torch.random.get_rng_state())
    log = rows(run.folder / "log.csv")
    assert [row["step"] for row in log] == ["1", "2"]
    terms = [k for k in log[0] if k not in ("step", "epoch", "rate", "skipped")]
    assert terms and all(math.isfinite(float(row[k])) for row in log for k in terms if row[k])
    assert all(math.isfinite(value) for value in run.scores.values())
    assert recipe.source.paper in (run.folder / "model-card.md").read_text()
    if recipe.train.task == "land cover":
        assert run.weights.name == "vgg16.safetensors"
        return
    remover = load_run(run.folder)
    assert type(remover) is zoo.network_class(recipe.model.name)[0]
    before = build_remover(recipe).network.state_dict()
    after = remover.network.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    opened = open_data(recipe.data, SIMULATED, bands=remover.config.bands, level=remover.config.level, seed=1, split="val")
    sample = Steps(opened, recipe.data, remover.config.bands, batch=1, seed=1).sample(0, 0)
    assert bool(remover(Batch.stack([sample])).s2.isfinite().all())


def test_frozen_parts_stay_as_they_were(run_of, tmp_path):
    start = load_run(run_of("drib-sar2opt").folder).network.state_dict()
    made = load_run(train(started("drib", run_of), SIMULATED, tmp_path / "drib").folder).network.state_dict()
    assert all(torch.equal(value, made[k]) for k, value in start.items())  # running statistics as well
    trunk = load_run(run_of("resnet-mono").folder).network.state_dict()
    frozen = tiny("seq2point-no-perceptual", f"model.start={run_of('resnet-mono').folder}", "train.freeze_steps=2")
    kept = load_run(train(frozen, SIMULATED, tmp_path / "kept").folder).network.state_dict()
    thawed = load_run(train(started("seq2point-no-perceptual", run_of), SIMULATED, tmp_path / "free").folder)
    name = "model_initial.0.weight"
    assert torch.equal(kept[name], trunk["model_initial.model.0.weight"])
    assert not torch.equal(thawed.network.state_dict()[name], kept[name])


def test_a_frozen_part_must_have_been_trained(run_of, tmp_path):
    with pytest.raises(UsageError, match="must have been trained before"):
        train(tiny("seq2point"), SIMULATED, tmp_path / "run")
    with pytest.raises(UsageError, match=r"no start for 'seq2point'(.|\n)*resnet-mono"):
        train(tiny("seq2point", f"model.start={run_of('drib-sar2opt').folder}"), SIMULATED, tmp_path / "run")


def test_a_perceptual_loss_needs_a_network_and_takes_the_trained_one(run_of, tmp_path):
    start = f"model.start={run_of('resnet-mono').folder}"
    with pytest.raises(UsageError, match="vgg16-landcover"):
        train(tiny("seq2point", start, "train.freeze_steps=1", "loss.network=''"), SIMULATED, tmp_path / "a")
    eye = run_of("vgg16-landcover").folder
    run = train(tiny("seq2point", start, "train.freeze_steps=1", f"loss.network={eye}"), SIMULATED, tmp_path / "b")
    assert float(rows(run.folder / "log.csv")[0]["perceptual"]) > 0


def test_the_encoder_of_the_land_cover_run_is_the_same_network(run_of):
    from safetensors.torch import load_file

    from unclouded.models.vgg import Encoder
    from unclouded.training.vgg16 import eye

    folder = run_of("vgg16-landcover").folder
    encoder = Encoder(13, width=4)
    encoder.load_state_dict(load_file(folder / "encoder.safetensors"), strict=True)
    image = torch.rand(1, 13, 32, 32, generator=torch.Generator().manual_seed(0))
    third = encoder(image)[2]  # after the third block: relu 15 of the VGG16
    whole = eye(str(folder), 13).features[:16](image)
    assert torch.equal(third, whole)


def test_what_a_run_leaves_behind(run_of):
    run = run_of("dsen2cr-carl")
    record = weights.read(run.weights)
    assert record.model == "dsen2cr" and "simulated place, split train" in record.trained_on
    assert record.numbers == run.scores and "Meraner et al. 2020" in record.citation
    assert (run.folder / "previews" / "step-00000002.png").is_file()
    assert weights.read(run.folder / "top" / "step-00000002" / "weights.safetensors").digest == record.digest
    assert rows(run.folder / "validation.csv")[0]["psnr"] == f"{run.scores['psnr']:.8g}"
    assert list((run.folder / "tensorboard").glob("events*"))
    card = (run.folder / "model-card.md").read_text()
    assert "Table 1 DSen2-CR on L_CARL" in card and "epochs: the paper gives none" in card and '"carl": 1.0' in card


def test_only_the_best_weights_are_kept(tmp_path):
    recipe = tiny("dsen2cr-l1", "train.validate_every=1", "train.top=2", "train.rate=1e-3", steps=5)
    run = train(recipe, SIMULATED, tmp_path / "run")
    scores = {int(row["step"]): float(row["psnr"]) for row in rows(run.folder / "validation.csv")}
    best = sorted(scores, key=lambda step: -scores[step])[:2]
    assert {int(p.name[5:]) for p in (run.folder / "top").iterdir()} == set(best)


def test_a_mean_of_the_weights_is_what_is_saved(tmp_path):
    recipe = tiny("dsen2cr-l1", "train.ema=0.75", "train.rate=1e-2", steps=2)
    steps = [load_run(train(recipe.model_copy(update={"train": recipe.train.model_copy(update={"ema": 0.0, "steps": n})}),
                            SIMULATED, tmp_path / f"plain{n}").folder).network.state_dict() for n in (1, 2)]  # fmt: skip
    mean = load_run(train(recipe, SIMULATED, tmp_path / "mean").folder).network.state_dict()
    for name, value in mean.items():
        torch.testing.assert_close(value, 0.75 * steps[0][name] + 0.25 * steps[1][name], rtol=1e-5, atol=1e-7)


def test_clipping_and_bf16_change_the_result_a_little(tmp_path):
    made = {
        name: load_run(train(tiny("dsen2cr-l1", "train.optimizer=sgd", *more), SIMULATED, tmp_path / name).folder).network
        for name, more in {"plain": [], "clip": ["train.clip=1e-3"], "bf16": ["train.precision=bf16"]}.items()
    }
    start = build_remover(tiny("dsen2cr-l1")).network.state_dict()

    def moved(name):
        state = made[name].state_dict()
        return math.sqrt(sum(float((state[k] - start[k]).square().sum()) for k in start))

    assert moved("clip") <= 7e-5 * 1e-3 * (1 + 1.9) * 1.01 < moved("plain")  # two steps of sgd with momentum 0.9
    assert made["bf16"].state_dict()["model.0.weight"].dtype == torch.float32
    assert moved("bf16") == pytest.approx(moved("plain"), rel=0.05)
    assert not torch.equal(made["bf16"].state_dict()["model.0.weight"], made["plain"].state_dict()["model.0.weight"])


class _Poisoned:
    """A source whose third sample has no finite value."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, i):
        from dataclasses import replace

        sample = self.inner[i]
        return replace(sample, target=np.full_like(sample.target, np.nan)) if i == 2 else sample


def test_a_loss_that_is_not_finite_stops_with_the_batch_named(tmp_path, monkeypatch):
    from unclouded.training import prepare

    opened = open_data(
        tiny("dsen2cr-l1").data, SIMULATED, bands=zoo.tiny_config("dsen2cr").bands, level="L1C", seed=0, split="train"
    )
    poisoned = opened._replace(source=_Poisoned(opened.source))
    monkeypatch.setattr(prepare, "open_data", lambda *a, **k: poisoned)
    recipe = tiny("dsen2cr-l1", "train.batch=1", "train.save_every=1", "data.validation=0", steps=6)
    with pytest.raises(TrainingDiverged, match="the loss is not finite") as error:
        train(recipe, SIMULATED, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "not-finite.json").read_text())
    assert told["samples"] == [opened.source[2].place.id] and told["terms"] == {"l1": "nan"}
    assert opened.source[2].place.id in str(error.value)
    done = rows(tmp_path / "run" / "log.csv")
    assert len(done) == told["step"] < 3 and all(math.isfinite(float(row["l1"])) for row in done)


def test_a_folder_is_only_taken_if_it_is_free(run_of, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        train(tiny("dsen2cr-l1"), SIMULATED, tmp_path)
    with pytest.raises(UsageError, match="There is a run in this folder"):
        train(tiny("dsen2cr-carl"), SIMULATED, run_of("dsen2cr-carl").folder)
    with pytest.raises(InputMissing, match="no run to go on with"):
        train(tiny("dsen2cr-l1"), SIMULATED, tmp_path / "new", resume=True)
    with pytest.raises(InputMissing, match="no data set that can be trained on"):
        train(tiny("dsen2cr-l1"), tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputMissing, match="no trained weights"):
        load_run(tmp_path)


def test_a_model_that_cannot_play_is_named(tmp_path):
    with pytest.raises(UsageError, match="'dsen2cr' has no discriminator"):
        train(tiny("dsen2cr-l1", "train.task=paired"), SIMULATED, tmp_path / "a")
    with pytest.raises(UsageError, match="Only cyclegan-cloudmap"):
        train(tiny("dsen2cr-l1", "train.task=cycle"), SIMULATED, tmp_path / "b")


TWO_PROCESSES = """
import sys
import torch
from training.tiny import tiny
from unclouded.training.run import train

if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe = tiny("dsen2cr-carl", "train.optimizer=sgd", "train.rate=1e-2", steps=4)
    train(recipe, "simulated", sys.argv[1], device="cpu", devices=int(sys.argv[2]))
"""


@pytest.mark.long
def test_two_processes_share_a_batch_and_agree_with_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for n in (1, 2):
        subprocess.run([sys.executable, script, tmp_path / str(n), str(n)], check=True, env=environment, timeout=300)
    one, two = (load_run(tmp_path / str(n)).network.state_dict() for n in (1, 2))
    start = build_remover(tiny("dsen2cr-carl")).network.state_dict()
    assert max(float((one[k] - start[k]).abs().max()) for k in one) > 1e-2
    assert max(float((one[k] - two[k]).abs().max()) for k in one) < 1e-5


def test_a_batch_must_be_as_large_as_the_number_of_devices(tmp_path):
    with pytest.raises(UsageError, match="batch of 2 cannot be shared by 3"):
        train(tiny("dsen2cr-l1"), SIMULATED, tmp_path / "run", devices=3)


def test_remove_takes_a_trained_run(tmp_path):
    """The whole flow with a network trained on the simulated place: hidden pixels come from it, seen ones are kept."""
    bands = ("B02", "B03", "B04", "B08")
    recipe = tiny("dsen2cr-carl", f"model.set.bands={list(bands)}", "model.set.level=L2A", steps=3)
    run = train(recipe, SIMULATED, tmp_path / "run")
    place = simulate(seed=9, size=(64, 64), dates=1, bands=bands, cover=0.4)
    scene, day = Scene.of(place.sample), place.sample.s2_dates[0]
    product = restore(
        scene, day, load_run(run.folder), tmp_path / "out", limits=Limits(), resolution=10, options={"model": str(run.folder)}
    )
    (image,) = product.folder.glob("*_clear*.tif")
    with open_raster(image) as file:
        counts = read(file, range(1, 5)).astype(np.float32) / 1e4
    hidden = scene.read(target=day).hidden()
    made = load_run(run.folder)(Batch.stack([scene.read(target=day)])).s2[0].numpy()
    assert 0.2 < hidden.mean() < 0.6
    np.testing.assert_allclose(counts[:, ~hidden], np.rint(place.sample.s2[0][:, ~hidden] * 1e4) / 1e4, atol=1.1e-4)
    np.testing.assert_allclose(counts[:, hidden], np.clip(made[:, hidden], 1e-4, None), atol=1e-3)


def test_progress_is_told(tmp_path):
    heard = []
    train(tiny("dsen2cr-l1", "data.validation=0", steps=3), SIMULATED, tmp_path / "run", progress=heard.append)
    assert [(s.step, s.steps) for s in heard] == [(1, 3), (2, 3), (3, 3)]
    assert heard[0].left > 0 and heard[-1].left == 0 and heard[0].values["l1"] > 0


def test_a_recipe_by_name_on_the_official_layout(tmp_path):
    from unclouded.datasets.offline import write_sen12mscr
    from unclouded.datasets.split import parse_roi

    root = tmp_path / "data"
    write_sen12mscr(root, [parse_roi("ROIs1158_spring/1"), parse_roi("ROIs1158_spring/17")], patches=2, size=48)
    small = ["model.set.features=4", "model.set.blocks=1", "train.batch=2", "train.steps=2", "data.workers=1"]
    run = train("dsen2cr-carl", root, tmp_path / "run", overrides=small)
    record = json.loads((run.folder / "run.json").read_text())
    assert record["data"]["name"] == "SEN12MS-CR"
    assert set(run.scores) == {"psnr", "ssim", "sam", "mae"}  # of region 17, in the validation split
    assert read_recipe("dsen2cr-carl", small).model_dump(mode="json") == record["recipe"]


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "adamw", "sgd"])
def test_weight_decay_draws_the_weights_to_zero_and_is_none_by_default(optimizer):
    def after(**options):
        weight = torch.nn.Parameter(torch.full((3,), 2.0))
        step = make_optimizer(Train(rate=0.1, epochs=1, batch=1, optimizer=optimizer, **options), [weight])
        weight.grad = torch.zeros(3)
        step.step()
        return weight.detach()

    assert torch.equal(after(), torch.full((3,), 2.0))
    decayed = after(weight_decay=0.5)
    assert bool((decayed < 2).all()) and bool((decayed > 0).all())
    if optimizer in ("sgd", "adamw"):  # w - rate x decay x w
        assert torch.allclose(decayed, torch.full((3,), 1.9))


def test_weight_decay_changes_a_run(tmp_path):
    runs = [train(tiny("dsen2cr-l1", f"train.weight_decay={d}"), SIMULATED, tmp_path / str(d)).folder for d in (0, 0.1)]
    plain, decayed = (load_run(run).network.state_dict() for run in runs)
    assert any(not torch.equal(plain[k], decayed[k]) for k in plain)
    with pytest.raises(UsageError, match=r"train\.weight_decay"):
        tiny("dsen2cr-l1", "train.weight_decay=-1")


@pytest.mark.parametrize(("optimizer", "decay"), [("adam", 0), ("adamw", 0.01)])
def test_a_run_from_before_there_was_weight_decay_goes_on_with_what_it_had(optimizer, decay, tmp_path):
    recipe = tiny("dsen2cr-l1", f"train.optimizer={optimizer}", f"train.weight_decay={decay}")
    train(recipe, SIMULATED, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    del record["recipe"]["train"]["weight_decay"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert train(recipe, SIMULATED, tmp_path / "run", resume=True).steps == 2
    other = tiny("dsen2cr-l1", f"train.optimizer={optimizer}", "train.weight_decay=0.5")
    with pytest.raises(UsageError, match=rf"weight_decay was {float(decay)}, is 0\.5"):
        train(other, SIMULATED, tmp_path / "run", resume=True)
