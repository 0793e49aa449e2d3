"""Masks and scene classifications beside the images or named by the user: whose they are, and that they lie over the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from scenes.test_series import CRS, box, dn, put
from unclouded.errors import InputsContradict, InputUnsupported
from unclouded.masks.delivered import given_of
from unclouded.products.legend import COVER_COLOURS, COVER_NAMES
from unclouded.products.mask import write_mask
from unclouded.sample import Cover
from unclouded.scenes.given import OURS
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene

FIRST, SECOND = "2020-06-01", "2020-06-11"


def _classes(path: Path, left: float = 500_000, size: tuple[int, int] = (24, 30), step: float = 10, **how: bool) -> Path:
    grid = None if how else box(*size, step, left)
    return put(path, np.full(size, 4, np.uint8), grid=grid, names=(), nodata=None, **how)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, day in enumerate((FIRST, SECOND)):
        put(tmp_path / "in" / day / "s2.tif", dn(n), tags={"LEVEL": "L2A"})
    return tmp_path / "in"


def _by_option(folder: Path, left: float) -> Scene:
    return open_scene(folder, given=_classes(folder.parent / "m.tif", left))


def _by_date(folder: Path, left: float) -> Scene:
    return open_scene(folder, given={SECOND: _classes(folder.parent / "m.tif", left)})


def _beside(folder: Path, left: float) -> Scene:
    _classes(folder / SECOND / "mask.tif", left)
    return open_scene(folder)


def _scl(folder: Path, left: float) -> Scene:
    _classes(folder / SECOND / "scl.tif", left)
    return open_scene(folder)


def _manifest(folder: Path, left: float) -> Scene:
    _classes(folder / "m.tif", left)
    (folder / "m.csv").write_text(f"date,s2,mask\n{FIRST},{FIRST}/s2.tif,\n{SECOND},{SECOND}/s2.tif,m.tif\n")
    return open_scene(folder / "m.csv")


WAYS = pytest.mark.parametrize("way", [_by_option, _by_date, _beside, _scl, _manifest])


@WAYS
def test_a_mask_of_another_place_is_refused(folder: Path, way: Callable[[Path, float], Scene]) -> None:
    with pytest.raises(InputsContradict, match=r"(m|mask|scl)\.tif shows another place than the image of 2020-06-") as caught:
        way(folder, 700_000)
    assert caught.value.code == 13


@WAYS
def test_a_mask_of_a_part_is_told_and_one_of_all_is_not(folder: Path, way: Callable[[Path, float], Scene]) -> None:
    (warning,) = way(folder, 500_200).decisions["warnings"]
    assert "covers 33% of the image of 2020-06-" in warning  # 10 of 30 columns
    assert way(folder, 500_000).decisions["warnings"] == []
    assert way(folder, 500_005).decisions["warnings"] == []  # less than one of its pixels


def test_a_mask_need_only_cover_its_image_where_that_lies_in_the_scene(folder: Path) -> None:
    put(folder / SECOND / "s2.tif", dn(5, size=(24, 12)), tags={"LEVEL": "L2A"})  # the left part of the place
    _classes(folder / SECOND / "scl.tif", size=(6, 3), step=40)
    assert open_scene(folder).decisions["warnings"] == []
    right = (500_205, 5_599_905, 500_245, 5_599_955, CRS)
    assert open_scene(folder, bbox=right).decisions["warnings"] == []  # the date does not lie there, nor does its SCL
    _classes(folder / FIRST / "scl.tif", size=(24, 12))
    with pytest.raises(InputsContradict, match=r"scl\.tif shows another place than the image of 2020-06-01"):
        open_scene(folder, bbox=right)


@pytest.mark.parametrize("name", ["mask.tif", "scl.tif"])
def test_without_coordinates_on_both_sides_a_mask_cannot_be_laid_over(folder: Path, name: str) -> None:
    _classes(folder / SECOND / name, georeferenced=False)
    with pytest.raises(InputsContradict, match="cannot be laid over the images"):
        open_scene(folder)
    for n, day in enumerate((FIRST, SECOND)):
        put(folder / day / "s2.tif", dn(n), tags={"LEVEL": "L2A"}, georeferenced=False)
    assert open_scene(folder).decisions["warnings"] == []
    _classes(folder / SECOND / name, size=(12, 15), georeferenced=False)
    with pytest.raises(InputsContradict, match=r"mask: \(12, 15\) pixels"):
        open_scene(folder)


# -- masks that we wrote -------------------------------------------------------------------------------------------


def _ours(folder: Path, classes: np.ndarray) -> Path:
    """A mask as `unclouded mask` writes it."""
    scene = open_scene(folder)
    scene = scene.with_masks(np.stack([classes] * len(scene.dates)))
    return write_mask(folder.parent / "ours.tif", scene, 0, lambda window: None)[0]


def _read(scene: Scene) -> np.ndarray:
    return given_of(scene, 0)(scene.window).classes[0]


def test_our_own_mask_of_a_clear_date_says_clear(folder: Path) -> None:
    clear = np.full((24, 30), Cover.CLEAR, np.uint8)
    clear[:3] = Cover.NODATA
    scene = open_scene(folder, given=_ours(folder, clear))
    assert scene.decisions["mask_kind"] == {FIRST: "classes", SECOND: "classes"}
    assert (_read(scene)[3:] == Cover.CLEAR).all() and (_read(scene)[:3] == Cover.OTHER).all()
    same = put(folder.parent / "binary.tif", clear, names=(), nodata=None)  # the same values without tags
    scene = open_scene(folder, given=same)
    assert scene.decisions["mask_kind"] == {}
    assert (_read(scene)[3:] == Cover.THICK).all() and (_read(scene)[:3] == Cover.CLEAR).all()


def test_our_tags_are_those_that_are_written_and_other_class_tags_say_nothing(folder: Path) -> None:
    assert {f"class_{int(code)}": COVER_NAMES[code] for code in COVER_COLOURS}.items() >= OURS.items()
    other = put(folder.parent / "other.tif", np.ones((24, 30), np.uint8), names=(), nodata=None)
    with rasterio.open(other, "r+") as target:  # noqa: TID251 - tags of another program
        target.update_tags(1, class_0="clear", class_1="cloud", class_3="thick cloud")
    assert open_scene(folder, given=other).decisions["mask_kind"] == {}


def test_a_mask_of_ours_that_was_changed_is_still_looked_at(folder: Path) -> None:
    file = _ours(folder, np.full((24, 30), Cover.CLEAR, np.uint8))
    with rasterio.open(file, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as target:  # noqa: TID251
        target.write(np.full((24, 30), 9, np.uint8), 1)
    with pytest.raises(InputUnsupported, match="values such as 9"):
        _read(open_scene(folder, given=file))
