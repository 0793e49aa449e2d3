"""The scene model as a file: a product made with it is the product it came from; anything else is refused in words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from safetensors.numpy import save_file

from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, UsageError
from unclouded.models import load, scene_store
from unclouded.models.probe import NO_PROBE, measure
from unclouded.models.scene_engine import Config, SceneEngine
from unclouded.products.fill import SIGMA_UNIT, Limits
from unclouded.raster import open_raster
from unclouded.remove import restore
from unclouded.sample import Batch, Cover, Place, Sample
from unclouded.scenes.scene import Scene

DAY = np.datetime64("2020-02-01")


def fields(side=64, dates=6, west=500_000, radar=True) -> Sample:
    """Patchwork fields, each turning green at its own pace, a cloud over the middle of the target."""
    rng = np.random.default_rng(1)
    kind = rng.random((side // 8, side // 8)).repeat(8, 0).repeat(8, 1)
    days = np.datetime64("2020-01-12") + 5 * np.arange(dates)
    green = 0.5 + 0.5 * np.sin(np.arange(dates)[:, None, None] / 3 + 6 * kind)
    ground = np.stack([0.15 - 0.1 * green, 0.2 + 0.2 * green], 1)
    cloud = np.zeros((dates, side, side), np.float32)
    cloud[4, 10:40, 15:45] = 1
    cloud[1, 40:] = 1
    s1 = np.stack([-14 + 4 * green, -20 + 6 * green], 1) + rng.standard_normal((dates, 2, side, side))
    has = {"s1": s1.astype(np.float32), "s1_valid": np.ones((dates, side, side), bool), "s1_dates": days - 1} if radar else {}
    grid = GeoBox((side, side), Affine(10, 0, west, 0, -10, 5_600_000), "EPSG:32631")
    return Sample(
        place=Place(id="fields", bands=("B04", "B08"), level="L2A", grid=grid),
        s2=(ground + 0.003 * rng.standard_normal(ground.shape)).astype(np.float32),
        s2_valid=np.ones_like(cloud, bool), s2_dates=days, cloud=cloud, **has,
    )  # fmt: skip


def run(out, scene, **changes):
    changes = {"limits": Limits(), "resolution": None, "options": {}} | changes
    return restore(scene, DAY, changes.pop("model", load("scene")), out, **changes)


def pixels(product):
    found = {}
    for name, path in product.files.items():
        if path.suffix == ".tif":
            with open_raster(path) as file:
                found[name] = file.read()
    return found


@pytest.fixture(scope="module")
def scene():
    return Scene.of(fields())


@pytest.fixture(scope="module")
def product(scene, tmp_path_factory):
    return run(tmp_path_factory.mktemp("first"), scene)


@pytest.fixture(scope="module")
def file(product):
    return product.files["scene-model"]


def test_a_product_from_its_scene_model_is_the_same_bit_for_bit_and_nothing_is_fitted(
    scene, product, file, tmp_path, monkeypatch
):
    monkeypatch.setattr(SceneEngine, "adapt", lambda *_: pytest.fail("a fit"))
    again = run(tmp_path, scene, scene_model=file)
    first, second = pixels(product), pixels(again)
    assert first.keys() == second.keys() and len(first) == 5
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert again.manifest["digest"] == product.manifest["digest"]
    assert again.manifest["probe"] == product.manifest["probe"] and product.manifest["probe"]["patches"] >= 4
    assert again.files["scene-model"].read_bytes() == file.read_bytes()


def test_the_file_is_listed_small_and_the_same_for_the_same_fit(scene, product, file, tmp_path):
    assert product.manifest["files"][file.name]["bytes"] == file.stat().st_size < 2_000_000
    assert product.item["assets"]["scene-model"]["file:size"] == file.stat().st_size
    assert run(tmp_path, scene).files["scene-model"].read_bytes() == file.read_bytes()


def test_other_limits_take_the_same_model(scene, product, file, tmp_path):
    sigma = pixels(product)["sigma"].max(0)[scene.masks[4] == Cover.THICK]
    middle = (int(sigma.min()) + int(sigma.max())) // 2
    strict = run(tmp_path, scene, scene_model=file, limits=Limits(max_sigma=(middle + 0.5) / SIGMA_UNIT))  # stored rounded
    assert product.manifest["pixels"]["refused"] == 0
    assert strict.manifest["pixels"]["refused"] == (sigma > middle).sum() > 0


def test_a_folder_of_products_gives_the_model_of_each_date(scene, product, file, tmp_path):
    assert scene_store.kept_for(product.folder.parent, DAY) == file
    assert scene_store.kept_for(file, DAY) == file
    with pytest.raises(InputMissing, match="no scene model"):
        run(tmp_path, scene, scene_model=scene_store.kept_for(tmp_path, DAY))


def other_place(scene):
    return Scene.of(fields(west=900_000))


def other_bands(scene):
    sample = fields()
    return Scene.of(replace(sample, place=replace(sample.place, bands=("B03", "B08"))))


def one_date_less(scene):
    sample = fields()
    cut = {name: getattr(sample, name)[1:] for name in ("s2", "s2_valid", "s2_dates", "cloud")}
    return Scene.of(replace(sample, **cut))


def no_radar(scene):
    return Scene.of(fields(radar=False))


def more_hidden(scene):
    masks = scene.masks.copy()
    masks[4, 50:60, 50:60] = Cover.THICK
    return scene.with_masks(masks)


@pytest.mark.parametrize(
    ("change", "words"),
    [(other_place, "its grid: EPSG:32631.*not EPSG:32631.*900000"), (other_bands, "its bands: B04 B08, not B03 B08"),
     (one_date_less, "its dates: 1 missing now, such as 2020-01-12"), (no_radar, "its radar dates: 6 missing now"),
     (more_hidden, "its cloud masks: other pixels are hidden now")],
)  # fmt: skip
def test_a_model_of_something_else_is_refused_in_words(scene, file, tmp_path, change, words):
    with pytest.raises(InputUnsupported, match=f"made for something else(.|\n)*{words}"):
        run(tmp_path, change(scene), scene_model=file)
    assert not (tmp_path / str(DAY)).exists()


def test_another_date_other_settings_and_other_methods_are_refused(scene, file, tmp_path):
    with pytest.raises(InputUnsupported, match="the date it was fitted for: 2020-02-01, not 2020-01-17"):
        scene_store.adapted(load("scene"), file, scene, np.datetime64("2020-01-17"))
    with pytest.raises(InputUnsupported, match=r"its settings: .*quality default.*not .*quality fast"):
        run(tmp_path, scene, scene_model=file, model=load("scene", {"quality": "fast"}))
    with pytest.raises(UsageError, match="Only the default model"):
        run(tmp_path, scene, scene_model=file, model=load("linear"))


def test_files_that_are_none_or_do_not_fit_together_are_refused(scene, tmp_path):
    engine = SceneEngine(Config(quality="fast")).adapt(scene, DAY)
    wrong = replace(engine.model, weights=engine.model.weights[1:])
    data = scene_store.to_bytes(scene_store.Fitted(model=wrong, probe=NO_PROBE, purpose={}))
    header = {scene_store.FORMAT: json.dumps({"kind": "SceneModel", "parts": {"day": {"value": 1}}})}
    save_file({"a": np.zeros(1)}, tmp_path / "parts", header)
    save_file({"a": np.zeros(1)}, tmp_path / "kind", {scene_store.FORMAT: json.dumps({"kind": "Popen", "parts": {}})})
    save_file({"a": np.zeros(1)}, tmp_path / "foreign")
    (tmp_path / "shapes").write_bytes(data)
    (tmp_path / "text").write_bytes(b"nothing")
    (tmp_path / "empty").write_bytes(b"")
    reasons = {
        "shapes": "weights has the shape", "parts": "missing", "kind": "Popen", "foreign": "not a scene",
        "text": "cannot be read", "empty": "cannot be read",
    }  # fmt: skip
    for name, words in reasons.items():
        with pytest.raises(InputCorrupt, match=words):
            scene_store.load(tmp_path / name)


def test_a_model_with_everything_in_it_comes_back_bit_for_bit(tmp_path):
    sample = fields(dates=16)
    scene, day = Scene.of(sample), sample.s2_dates[4]
    engine = load("scene").adapt(scene, day)
    assert engine.model.embed is not None and engine.model.alone is not None  # the full engine, not the guard
    (tmp_path / "m").write_bytes(scene_store.packed(engine, measure(load("linear"), scene, day), scene, day))
    again, probe = scene_store.adapted(load("scene"), tmp_path / "m", scene, day)
    batch = Batch.stack([scene.read(target=day)])
    old, new = engine(batch), again(batch)
    for name in ("s2", "sigma", "source", "age", "support"):
        assert np.array_equal(getattr(old, name).numpy(), getattr(new, name).numpy(), equal_nan=True), name
    assert probe.constant is not None and len(probe.constant) == 2


@pytest.mark.parametrize(("dates", "hidden"), [(6, 1.0), (6, 0.99), (1, 0.5)])
def test_models_of_dates_that_show_little_or_nothing_come_back_too(tmp_path, dates, hidden):
    sample = fields(radar=False)
    if dates == 1:
        only = slice(4, 5)
        sample = replace(
            sample, s2=sample.s2[only], s2_valid=sample.s2_valid[only], s2_dates=sample.s2_dates[only], cloud=sample.cloud[only]
        )
    at = min(4, dates - 1)
    sample.cloud[at].reshape(-1)[: round(hidden * sample.cloud[at].size)] = 1
    scene, day = Scene.of(sample), sample.s2_dates[at]
    how = {"limits": Limits(), "resolution": None, "options": {}}
    first = restore(scene, day, load("scene"), tmp_path / "first", **how)
    again = restore(scene, day, load("scene"), tmp_path / "again", scene_model=first.files["scene-model"], **how)
    assert again.manifest["digest"] == first.manifest["digest"]
