"""The main job on files: whole products from tiny series, and every broken input with its message, code and clean folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from unclouded.datasets.simulated import SimulatedPlace, simulate, write_series
from unclouded.errors import UncloudedError
from unclouded.models import scene_engine
from unclouded.models.scene_survey import surveyed
from unclouded.products.product import Product, load_product
from unclouded.raster import create_raster, open_raster
from unclouded.remove import remove_clouds
from unclouded.sample import HIDING, Cover, Source

DATES = ["2024-05-01", "2024-05-06", "2024-05-11", "2024-05-16", "2024-05-21", "2024-05-31"]
DAY = DATES[2]


@pytest.fixture(scope="session")
def place() -> SimulatedPlace:
    return simulate(seed=4, size=(48, 60), dates=DATES, cover=[0.0, 0.2, 0.5, 0.0, 0.9, 0.1])


@pytest.fixture(scope="session")
def made(place, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "fields"
    write_series(place, folder)
    return folder


@pytest.fixture
def series(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "fields"))


def run(series, out, **options) -> Product:
    product = remove_clouds(series, out, **{"date": DAY, "model": "linear", **options})
    assert isinstance(product, Product)
    return product


def read(path: Path) -> np.ndarray:
    with open_raster(path) as file:
        return file.read()


def grid_like(series: Path) -> GeoBox:
    with open_raster(series / DAY / "s2.tif") as file:
        return GeoBox((48, 60), file.transform, file.crs)


def write(path: Path, values: np.ndarray, grid: GeoBox, **options) -> None:
    values = values if values.ndim == 3 else values[None]
    with create_raster(path, height=48, width=60, count=len(values), dtype=str(values.dtype), grid=grid, **options) as file:
        file.write(values)


def role(product: Product, name: str) -> np.ndarray:
    return read(next(product.folder.glob(f"*_{name}.tif")))


@pytest.mark.parametrize("model", ["scene", "linear"])
def test_a_whole_product_from_a_series_folder(series, tmp_path, place, model):
    product = run(series, tmp_path / "out", model=model)
    names = {path.name.removeprefix("fields_20240511") for path in product.folder.iterdir()}
    rasters = {"_clear.tif", "_source.tif", "_mask.tif", "_sigma.tif", "_age.tif"}
    learned = {"_scene-model.safetensors"} if model == "scene" else set()
    assert names == rasters | learned | {"_quicklook.png", ".html", ".json", "manifest.json"}
    assert product.folder == tmp_path / "out" / DAY and load_product(product.folder, verify=True).manifest == product.manifest
    given, clear, mask = read(series / DAY / "s2.tif"), role(product, "clear"), role(product, "mask")[0]
    assert np.array_equal(clear[:, mask == Cover.CLEAR], given[:, mask == Cover.CLEAR])
    hidden = HIDING[mask]
    assert 0.3 < hidden.mean() < 0.9
    error = clear[:, hidden] / 10_000 - place.truth[2][:, hidden]
    assert np.sqrt((error**2).mean()) < 0.04
    assert set(np.unique(role(product, "source"))) <= {Source.OBSERVED, Source.DATES, Source.DATES_SAR, Source.PRIOR}
    with open_raster(series / DAY / "s2.tif") as before, open_raster(next(product.folder.glob("*_clear.tif"))) as after:
        assert (after.crs, after.transform, after.dtypes, after.nodata) == (
            before.crs,
            before.transform,
            before.dtypes,
            before.nodata,
        )
        assert after.descriptions == before.descriptions


def test_the_same_inputs_give_the_same_digest_and_options_another(series, tmp_path):
    first, second = (run(series, tmp_path / name, model="scene").manifest["rasters"] for name in "ab")
    assert first == second
    assert run(series, tmp_path / "c", model="scene", settings={"radar": False}).manifest["rasters"] != first


def test_sidecars_change_nothing(series, tmp_path):
    before = run(series, tmp_path / "a").manifest["rasters"]
    image = series / DAY / "s2.tif"
    image.with_name("s2.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:3857</SRS><PAMRasterBand band='1'><NoDataValue>77</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    assert run(series, tmp_path / "b").manifest["rasters"] == before


def test_an_explicit_mask_is_final(series, tmp_path):
    hidden = np.zeros((48, 60), np.uint8)
    hidden[10:20, 5:25] = 1
    path = tmp_path / "mask.tif"
    write(path, hidden, grid_like(series))
    product = run(series, tmp_path / "out", mask=path)
    assert np.array_equal(HIDING[role(product, "mask")[0]], hidden == 1)


def test_all_dates_gives_one_product_each_and_a_catalogue(series, tmp_path):
    products = remove_clouds(series, tmp_path / "out", all_dates=True, model="nearest")
    assert [p.folder.name for p in products] == DATES
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == DATES
    clear_day = next(p for p in products if p.folder.name == DATES[3])
    assert (role(clear_day, "source") == Source.OBSERVED).mean() > 0.9


def test_all_dates_and_their_probes_share_one_survey_of_the_place(series, tmp_path, monkeypatch):
    surveys = []
    monkeypatch.setattr(scene_engine, "surveyed", lambda *a, **more: surveys.append(1) or surveyed(*a, **more))
    monkeypatch.setattr(scene_engine, "studied", None)  # no date reads for itself
    fast = {"model": "scene", "settings": {"quality": "fast"}, "datetime": f"{DATES[1]}/{DATES[3]}"}
    products = remove_clouds(series, tmp_path / "out", all_dates=True, **fast)
    assert surveys == [1] and any(product.manifest["pixels"]["dates"] for product in products)
    again = remove_clouds(series, tmp_path / "again", all_dates=True, scene_model=tmp_path / "out", **fast)
    assert surveys == [1] and [p.manifest["rasters"] for p in again] == [p.manifest["rasters"] for p in products]


def test_an_area_is_cut_from_the_whole(series, tmp_path):
    alone = {"screen": False, "grow": 0.0}  # beyond the area nothing is read, so no margin can reach in from there
    whole = run(series, tmp_path / "whole", **alone)
    with open_raster(series / DAY / "s2.tif") as file:
        x, y, crs = file.transform.c, file.transform.f, str(file.crs)
    box = (x + 100, y - 400, x + 400, y - 100, crs)
    part = run(series, tmp_path / "part", bbox=box, **alone)
    assert np.array_equal(role(part, "clear"), role(whole, "clear")[:, 10:40, 10:40])


def test_bands_are_chosen(series, tmp_path):
    product = run(series, tmp_path / "out", bands=["B04", "B08", "B02"])
    assert role(product, "clear").shape[0] == 3
    with open_raster(next(product.folder.glob("*_clear.tif"))) as file:
        assert file.descriptions == ("B02", "B04", "B08")  # in the order of the file


def test_nothing_clear_but_other_dates_and_nothing_at_all(series, tmp_path, place):
    covered = run(series, tmp_path / "a", date=DATES[4], model="scene")
    assert np.isin(role(covered, "source"), [Source.OBSERVED, Source.DATES, Source.DATES_SAR, Source.PRIOR, Source.SAR]).all()
    for day in DATES:  # now every date is under a mask
        write(series / day / "mask.tif", np.ones((48, 60), np.uint8), grid_like(series))
    for model in ("scene", "linear"):
        product = run(series, tmp_path / model, model=model)
        assert (role(product, "source") == Source.REFUSED).all() and (role(product, "clear") == 0).all()


def test_a_single_pixel(series, tmp_path):
    with open_raster(series / DAY / "s2.tif") as file:
        x, y, crs = file.transform.c, file.transform.f, str(file.crs)
    product = run(series, tmp_path / "out", bbox=(x + 1, y - 9, x + 9, y - 1, crs), model="scene")
    assert role(product, "clear").shape[1:] == (1, 1)


def _vrt(series: Path) -> None:
    (series / DAY / "s2.tif").write_text("<VRTDataset rasterXSize='48' rasterYSize='60'></VRTDataset>")


def _cut(series: Path) -> None:
    path = series / DAY / "s2.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(series: Path) -> None:
    """Damage in the pixels that the decoder notices."""
    path = series / DAY / "s2.tif"
    with open_raster(path) as file:
        names = file.descriptions
    write(path, read(path), grid_like(series), descriptions=names, compress="deflate")
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = b"\xff" * third  # whole tiles, their headers too: what zlib cannot fail to see
    path.write_bytes(data)


def _far_radar(series: Path) -> None:
    grid = GeoBox((48, 60), Affine(10, 0, 300_000, 0, -10, 1_000_000), "EPSG:32735")
    for day in DATES:
        write(series / day / "s1.tif", np.full((2, 48, 60), -12, np.float32), grid, descriptions=("VV", "VH"))


def _empty(series: Path) -> None:
    for day in DATES:
        (series / day / "s2.tif").unlink()


def _other_bands(series: Path) -> None:
    write(series / DAY / "s2.tif", read(series / DAY / "s2.tif")[:2], grid_like(series), descriptions=("B02", "B99"))


@pytest.mark.parametrize(
    ("damage", "codes", "words"),
    [
        (_vrt, {14}, "s2.tif"),
        (_cut, {11}, "s2.tif"),
        (_flip, {11}, "s2.tif"),
        (_far_radar, {13}, "s1.tif"),
        (_empty, {10}, "Sentinel-2"),
        (_other_bands, {13}, "--bands B02"),
        (lambda series: shutil.rmtree(series), {10}, "fields"),
    ],
)
def test_broken_input_is_explained_and_leaves_nothing(series, tmp_path, damage, codes, words):
    damage(series)
    with pytest.raises(UncloudedError) as caught:
        run(series, tmp_path / "out")
    assert caught.value.code in codes, caught.value
    assert words in str(caught.value) and caught.value.do
    out = tmp_path / "out"
    assert not out.exists() or not [p for p in out.rglob("*") if p.is_file() and not p.name.endswith(".lock")]


def test_dates_out_of_order_in_a_manifest_are_sorted(series, tmp_path):
    rows = [f"{day},{day}/s2.tif,{day}/s1.tif,{day}/scl.tif" for day in reversed(DATES)]
    (series / "list.csv").write_text("\n".join(["date,s2,s1,scl", *rows]))
    listed = run(series / "list.csv", tmp_path / "a", place="fields")
    assert listed.manifest["rasters"] == run(series, tmp_path / "b").manifest["rasters"]


def test_a_date_without_clouds_is_copied(series, tmp_path):
    for day in DATES:
        write(series / day / "mask.tif", np.full((48, 60), 0 if day == DATES[0] else 1, np.uint8), grid_like(series))
    product = run(series, tmp_path / "out", date=DATES[0], model="scene")
    assert np.array_equal(role(product, "clear"), read(series / DATES[0] / "s2.tif"))
    assert (role(product, "source") == Source.OBSERVED).all() and (role(product, "sigma") == 0).all()


def test_a_date_without_data_stays_without(series, tmp_path):
    path = series / DAY / "s2.tif"
    with open_raster(path) as file:
        names = file.descriptions
    write(path, np.zeros((len(names), 48, 60), np.uint16), grid_like(series), nodata=0, descriptions=names)
    product = run(series, tmp_path / "out", model="scene")
    assert (role(product, "source") == Source.NODATA).all() and (role(product, "mask") == Cover.NODATA).all()
    filled = run(series, tmp_path / "filled", model="scene", fill_nodata=True)
    assert (role(filled, "source") != Source.NODATA).all() and (role(filled, "clear") > 0).all()


def test_an_existing_product_stays_unless_told(series, tmp_path):
    product = run(series, tmp_path / "out")
    with pytest.raises(UncloudedError, match="--overwrite") as caught:
        run(series, tmp_path / "out", model="nearest")
    assert caught.value.code == 2
    assert load_product(product.folder, verify=True).manifest["job"]["model"] == "linear"
    assert run(series, tmp_path / "out", model="nearest", overwrite=True).manifest["job"]["model"] == "nearest"
