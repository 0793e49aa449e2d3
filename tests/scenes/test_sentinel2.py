"""SAFE products: the same ground whatever the baseline, native layers bit for bit, damage named, nothing guessed."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from make.safe import SIZE, ground, make_safe, scl, write_manifest, zipped
from unclouded.bands import L1C, L2A, S2
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, RefusedForSafety
from unclouded.scenes.describe import describe
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene
from unclouded.units import to_counts

METRES = {b.name: b.metres for b in S2}


def truth(bands: tuple[str, ...], seed: int = 0) -> np.ndarray:
    """Reflectance of the ground on the 10 m grid."""
    fields = ground(seed)
    return np.stack([fields[b].repeat(METRES[b] // 10, 0).repeat(METRES[b] // 10, 1) for b in bands]) / 10_000


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("safe")
    found = {
        "new": make_safe(folder / "new", baseline="05.10", offset=-1000),
        "old": make_safe(folder / "old", baseline="03.01", offset=None, algorithm="MD5"),
        "l1c": make_safe(folder / "l1c", level="L1C", baseline="05.10", offset=-1000),
        "l1c_old": make_safe(folder / "l1c_old", level="L1C", baseline="02.09", offset=None, algorithm="MD5"),
    }
    return found | {"zip": zipped(found["new"])}


@pytest.mark.parametrize(("name", "bands"), [("new", L2A), ("old", L2A), ("zip", L2A), ("l1c", L1C), ("l1c_old", L1C)])
def test_same_ground_before_and_after_the_offset(products: dict[str, Path], name: str, bands: tuple[str, ...]) -> None:
    scene = open_scene(products[name])
    sample = scene.read()
    assert scene.place.bands == bands
    assert scene.place.level == ("L1C" if bands == L1C else "L2A")
    assert scene.shape == (SIZE, SIZE)
    assert str(scene.dates[0]) == "2022-06-13"
    assert scene.place.id == "T31UES"
    hole = np.zeros((SIZE, SIZE), bool)
    hole[:6, :6] = True
    assert np.array_equal(sample.s2_valid[0], ~hole)  # DN 0 is no data, before the offset
    assert np.abs(sample.s2[0] - truth(bands))[:, ~hole].max() < 1e-6
    assert (sample.s2[0][:, hole] == 0).all()
    assert float(sample.s2[0][:, ~hole].min()) < 0.01  # 20 DN less 1000 would have wrapped


def test_layers_are_native_and_counts_are_the_files(products: dict[str, Path]) -> None:
    source = open_scene(products["new"]).source
    layers = source.layers(0)
    assert [(layer.name, layer.factor, layer.shape) for layer in layers] == [
        ("10m", 1, (120, 120)),
        ("20m", 2, (60, 60)),
        ("60m", 6, (20, 20)),
    ]
    assert [layer.bands for layer in layers] == [
        ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12"), ("B01", "B09"),
    ]  # fmt: skip
    for layer in layers:
        dn = source.counts(0, layer, Scene.window.fget(open_scene(products["new"]))._replace(height=9, width=7))  # type: ignore[attr-defined]
        expected = np.stack([ground()[b] + 1000 for b in layer.bands]).astype(np.uint16)
        hole = 60 // METRES[layer.bands[0]]
        expected[:, :hole, :hole] = 0
        assert dn.dtype == np.uint16
        assert np.array_equal(dn, expected[:, :9, :7])
        assert layer.nodata == 0
        assert layer.offset == (-1000.0,) * len(layer.bands)


def test_band_id_8_is_b8a(tmp_path: Path) -> None:
    safe = make_safe(tmp_path, level="L1C", offsets={"B8A": -2000, "B09": -3000}, holes=False)
    sample = open_scene(safe).read()
    assert np.abs(sample.s2[0] - truth(L1C)).max() < 1e-6


def test_explicit_offset_overrules_and_round_trips(products: dict[str, Path]) -> None:
    scene = open_scene(products["new"], offset="none", bands=["B02"])
    raw = scene.read()
    assert np.abs(raw.s2[0, 0] - truth(("B02",))[0] - 0.1)[raw.s2_valid[0]].max() < 1e-6
    assert scene.decisions["offset"][0] == {"date": "2022-06-13", "offset": 0.0, "evidence": "--offset none"}
    auto = open_scene(products["new"], bands=["B02"])
    layer = auto.source.layers(0)[0]
    dn = to_counts(auto.read().s2[0], dtype=np.uint16, offset=layer.offset)
    valid = auto.read().s2_valid[0]
    assert np.array_equal(dn[:, valid], auto.source.counts(0, layer, auto.window)[:, valid])


def test_offset_evidence_is_recorded(products: dict[str, Path]) -> None:
    note = open_scene(products["new"]).decisions["offset"][0]
    assert note["offset"] == -1000
    assert "BOA_ADD_OFFSET in the product metadata: -1000 (baseline 05.10)" in note["evidence"]
    assert open_scene(products["old"]).decisions["offset"][0]["offset"] == 0


def test_scl_comes_repeated(products: dict[str, Path]) -> None:
    sample = open_scene(products["new"], bands=["B02", "B8A"]).read()
    assert sample.scl is not None
    assert np.array_equal(sample.scl[0], scl().repeat(2, 0).repeat(2, 1))
    assert open_scene(products["l1c"]).read().scl is None


def test_twenty_metre_bands_alone_make_a_twenty_metre_scene(products: dict[str, Path]) -> None:
    scene = open_scene(products["new"], bands=["B8A", "B05"])
    assert scene.shape == (60, 60)
    assert scene.place.bands == ("B8A", "B05")
    sample = scene.read()
    expected = np.stack([ground()["B8A"], ground()["B05"]]) / 10_000
    assert np.abs(sample.s2[0] - expected)[:, sample.s2_valid[0]].max() < 1e-6


def _flip(file: Path, at: int = 400) -> None:
    damaged = bytearray(file.read_bytes())
    damaged[at] ^= 1
    file.write_bytes(damaged)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA3-256"])
def test_one_flipped_bit_is_named(tmp_path: Path, algorithm: str) -> None:
    safe = make_safe(tmp_path, algorithm=algorithm)
    file = next(safe.rglob("*_B04_10m.jp2"))
    _flip(file, file.stat().st_size - 60)
    with pytest.raises(InputCorrupt, match=rf"B04: {algorithm} differs from manifest.safe. Nothing was written"):
        open_scene(safe)
    assert open_scene(safe, bands=["B02"]).decisions["verified"] == {safe.name: True}  # only what is used is checked
    unverified = open_scene(safe, verify=False)
    assert unverified.decisions["verified"] == {safe.name: False}
    assert any("digests not checked" in text for text in unverified.decisions["warnings"])


def test_damage_inside_a_zip_is_named(tmp_path: Path) -> None:
    safe = make_safe(tmp_path)
    _flip(next(safe.rglob("*_B08_10m.jp2")), 300)
    with pytest.raises(InputCorrupt, match="B08"):
        open_scene(zipped(safe))


def test_missing_band_names_it(tmp_path: Path) -> None:
    safe = make_safe(tmp_path)
    next(safe.rglob("*_B11_20m.jp2")).unlink()
    with pytest.raises(InputMissing, match="has no B11"):
        open_scene(safe)
    with pytest.raises(InputMissing, match="B10") as caught:
        open_scene(safe, bands=["B02", "B10"])
    assert "L2A products have no B10" in str(caught.value)


def test_missing_offset_list_is_never_guessed(tmp_path: Path) -> None:
    safe = make_safe(tmp_path, baseline="04.00", offset=None)
    with pytest.raises(InputCorrupt, match="lack BOA_ADD_OFFSET"):
        open_scene(safe)
    assert open_scene(safe, offset=-1000).decisions["offset"][0]["offset"] == -1000


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (">10000<", ">nan<", "QUANTIFICATION"),
        (">10000<", ">\u0661\u0660<", "QUANTIFICATION"),
        ("05.10</PROCESSING_BASELINE>", "</PROCESSING_BASELINE>", "PROCESSING_BASELINE"),
        ("band_id='8'", "band_id='99'", "B8A"),
        ("</n1:P>", "", "cannot be read"),
    ],
)
def test_broken_metadata_names_the_tag(tmp_path: Path, old: str, new: str, match: str) -> None:
    safe = make_safe(tmp_path)
    xml = safe / "MTD_MSIL2A.xml"
    assert old in xml.read_text()
    xml.write_text(xml.read_text().replace(old, new))
    with pytest.raises(InputCorrupt, match=match):
        open_scene(safe, verify=False)


def test_entities_are_refused(tmp_path: Path) -> None:
    safe = make_safe(tmp_path)
    xml = safe / "MTD_MSIL2A.xml"
    xml.write_text(xml.read_text().replace("<n1:P", "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><n1:P", 1))
    with pytest.raises(RefusedForSafety, match="entities"):
        open_scene(safe)


def test_empty_metadata(tmp_path: Path) -> None:
    safe = make_safe(tmp_path)
    (safe / "MTD_MSIL2A.xml").write_text("")
    with pytest.raises(InputCorrupt, match=r"MTD_MSIL2A\.xml"):
        open_scene(safe)


def test_a_sentinel1_product_is_not_taken_for_sentinel2(data: Path) -> None:
    product = next((data / "s1_grd_safe").glob("*.SAFE"))
    with pytest.raises(InputUnsupported, match="is a Sentinel-1 product"):
        open_scene(product)


def test_several_products_are_a_series_and_one_day_is_chosen(tmp_path: Path) -> None:
    first = make_safe(tmp_path, day="20220601", seed=1)
    stale = make_safe(tmp_path, day="20220613", baseline="04.00", seed=2)
    fresh = make_safe(tmp_path, day="20220613", baseline="05.10", seed=3)
    emptier = make_safe(tmp_path, day="20220613", baseline="05.10", seed=4, processed="20250101T000000", nodata_percentage=50)
    scene = open_scene([fresh, stale, first, emptier], bands=["B02"])
    assert [str(d) for d in scene.dates] == ["2022-06-01", "2022-06-13"]
    assert np.abs(scene.read().s2[1, 0] - truth(("B02",), 3)[0])[scene.read().s2_valid[1]].max() < 1e-6
    mosaic, note = scene.decisions["dates"]
    assert mosaic["mosaic"] == [fresh.name, emptier.name]  # stored alike: it may hold what the fuller one lacks
    assert note["kept"] == fresh.name
    assert note["left"] == [stale.name]
    assert np.array_equal(open_scene(tmp_path, bands=["B02"]).dates, scene.dates)  # a folder of products


def test_area_snaps_outwards_to_the_coarsest_pixels(products: dict[str, Path]) -> None:
    box = (600_075.0, 5_699_305.0, 600_315.0, 5_699_875.0, "EPSG:32631")
    scene = open_scene(products["new"], bbox=box)
    whole = open_scene(products["new"])
    assert scene.place.grid is not None
    assert tuple(scene.place.grid.boundingbox) == (600_060.0, 5_699_280.0, 600_360.0, 5_699_880.0)
    assert scene.shape == (60, 30)
    assert [layer.shape for layer in scene.source.layers(0)] == [(60, 30), (30, 15), (10, 5)]
    assert np.array_equal(scene.read().s2, whole.read().s2[:, :, 12:72, 6:36])
    for part, layer in zip(scene.source.layers(0), whole.source.layers(0), strict=True):
        inner = scene.source.counts(0, part, scene.window._replace(height=part.shape[0], width=part.shape[1]))
        outer = whole.source.counts(0, layer, whole.window._replace(height=layer.shape[0], width=layer.shape[1]))
        top, left = 12 // part.factor, 6 // part.factor
        assert np.array_equal(inner, outer[:, top : top + part.shape[0], left : left + part.shape[1]])


def test_scenes_travel_to_other_processes(products: dict[str, Path]) -> None:
    scene = open_scene(products["zip"], bands=["B02", "B01"])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(scene.read).result()
    assert np.array_equal(there.s2, scene.read().s2)


def test_describe_a_product(products: dict[str, Path]) -> None:
    found = describe(products["zip"])
    assert (found["sensor"], found["level"], found["baselines"]) == ("Sentinel-2", "L2A", ["05.10"])
    assert found["resolutions"]["B02"] == 10
    assert found["resolutions"]["B8A"] == 20
    assert found["resolutions"]["B01"] == 60
    (day,) = found["dates"]
    assert (day["date"], day["offset"], day["sun_zenith"], day["sun_azimuth"]) == ("2022-06-13", -1000.0, 31.5, 150.25)
    assert day["cover"]["cloud"] == pytest.approx(100 / 3600, abs=1e-4)


def test_manifest_without_a_used_file_is_recorded(tmp_path: Path) -> None:
    safe = make_safe(tmp_path)
    file = next(safe.rglob("*_B02_10m.jp2"))
    content = file.read_bytes()
    file.unlink()
    write_manifest(safe)
    file.write_bytes(content)
    assert open_scene(safe).decisions["verified"] == {safe.name: False}
