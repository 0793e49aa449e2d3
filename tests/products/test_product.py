"""The writer: whole products only, refused in words where it cannot be, equal digests whatever the order."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from products.made import DATE, FINE, classes_of, finish, guess_of, hidden, layer, mixed, single
from unclouded.errors import (
    InputCorrupt,
    InputMissing,
    OutputFailed,
    RecordError,
    TryAgain,
    UsageError,
    VerificationFailed,
)
from unclouded.products import assembly, cog, product
from unclouded.products.fill import Limits, fill
from unclouded.products.product import ProductWriter, load_product, plain, product_id
from unclouded.raster import open_raster
from unclouded.sample import Cover, Source

ROLES = ["age", "clear_10m", "clear_20m", "clear_60m", "item", "mask", "quicklook", "report", "sigma", "source"]


def read(path: Path) -> np.ndarray:
    with open_raster(path) as source:
        return source.read()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_product_has_every_file_and_observed_pixels_bit_for_bit(tmp_path):
    scene = mixed(100, 86)
    made = finish(tmp_path, scene)
    assert made.folder == tmp_path / "2020-06-01" and made.id == "T31_made_20200601"
    assert sorted(made.files) == ROLES and names(tmp_path) == ["2020-06-01", "manifest.json"]
    expected = {f"{made.id}_{r}.tif" for r in ("clear_10m", "clear_20m", "clear_60m", "source", "mask", "sigma", "age")}
    expected |= {f"{made.id}_quicklook.png", f"{made.id}.html", f"{made.id}.json", "manifest.json"}
    assert set(names(made.folder)) == expected
    for part, dn in zip(scene.source.parts, scene.source.dn, strict=True):
        with open_raster(made.files[f"clear_{part.name}"]) as got:
            assert got.dtypes[0] == "uint16" and got.nodata == 0 and got.transform == part.grid.affine
            assert got.descriptions == part.descriptions and got.scales == part.scale_tags and got.offsets == part.offset_tags
            assert part.tags.items() <= got.tags().items()
            if part.factor == 1:
                mask = read(made.files["mask"])[0]
                assert np.isin(mask, (Cover.CLEAR, Cover.SNOW)).sum() > 4000
                clear = np.isin(mask, (Cover.CLEAR, Cover.SNOW))
                np.testing.assert_array_equal(got.read()[:, clear], dn[:, clear])
    source = read(made.files["source"])[0]
    assert made.manifest["pixels"] == {s.name.lower(): int((source == s).sum()) for s in Source}
    assert sum(made.manifest["pixels"].values()) == 8600
    with open_raster(made.files["sigma"]) as sigma:
        assert sigma.descriptions == scene.place.bands and sigma.scales[0] == 1e-4 and sigma.nodata == 65_535


def test_digests_depend_on_nothing_but_inputs_and_options(tmp_path):
    scene = mixed(100, 86)
    first = finish(tmp_path / "a", scene).manifest
    shuffled = finish(tmp_path / "b", scene, order=3).manifest
    assert first["rasters"] == shuffled["rasters"] and first["digest"] == shuffled["digest"]
    other_blocks = finish(tmp_path / "c", scene, block=36).manifest
    assert other_blocks["rasters"] == first["rasters"]
    other = finish(tmp_path / "d", scene, limits=Limits(max_age=3)).manifest
    assert other["rasters"]["clear_10m"] != first["rasters"]["clear_10m"]
    assert other["rasters"]["mask"] == first["rasters"]["mask"]


@pytest.mark.parametrize(
    ("height", "width", "code"),
    [(1, 1, Cover.CLEAR), (1, 1, Cover.THICK), (1, 1, Cover.NODATA), (9, 13, Cover.CLEAR), (13, 9, Cover.THICK)],
)
def test_scenes_of_one_kind_of_pixel(tmp_path, height, width, code):
    classes = np.full((height, width), code, np.uint8)
    dn = np.full((3, height, width), 0 if code == Cover.NODATA else 4321, np.uint16)
    made = finish(tmp_path, single(dn, classes))
    clear, source = read(made.files["clear"]), read(made.files["source"])[0]
    if code == Cover.THICK:
        assert (source > 1).all() and not (clear == 4321).any()
    else:
        np.testing.assert_array_equal(clear, dn)
        assert (source == (Source.OBSERVED if code == Cover.CLEAR else Source.NODATA)).all()
    assert made.files["quicklook"].read_bytes().startswith(b"\x89PNG")
    assert ("<svg" in made.files["report"].read_text()) == (height > 1 and code == Cover.THICK)  # spectra of what was rebuilt


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_other_types_and_no_grid_work(tmp_path, dtype):
    classes = classes_of(30, 20, 1)
    scale = {"quantification": 1.0, "offset": (0.0,) * 3, "nodata": np.nan} if dtype == "float32" else {}
    dn = np.random.default_rng(0).uniform(0.05, 0.6, (3, 30, 20)).astype(np.float32)
    dn = dn if dtype == "float32" else np.rint(dn * 10_000 + 1000).astype(np.int16)
    scene = single(dn, classes, grid=None, scale_tags=(), offset_tags=(), **scale)
    made = finish(tmp_path, scene)
    clear = classes == Cover.CLEAR
    got = read(made.files["clear"])
    assert got.dtype == dtype and made.item["geometry"] is None and "bbox" not in made.item
    np.testing.assert_array_equal(got[:, clear], dn[:, clear])
    refused = read(made.files["source"])[0] == Source.REFUSED
    assert refused.any() and (np.isnan(got[:, refused]).all() if dtype == "float32" else (got[:, refused] == 0).all())


def test_a_finished_product_is_not_replaced_unless_asked(tmp_path):
    scene = mixed(30, 30)
    first = finish(tmp_path, scene)
    before = first.files["clear_10m"].read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        finish(tmp_path, scene)
    assert first.files["clear_10m"].read_bytes() == before and names(tmp_path) == ["2020-06-01", "manifest.json"]
    second = finish(tmp_path, scene, overwrite=True, limits=Limits(max_age=3), job={"max_age": 3})
    assert second.manifest["digest"] != first.manifest["digest"] and names(tmp_path) == ["2020-06-01", "manifest.json"]
    listed = json.loads((tmp_path / "manifest.json").read_text())["products"]
    assert listed == [{"date": "2020-06-01", "id": second.id, "folder": "2020-06-01", "digest": second.manifest["digest"]}]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_product_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "2020-06-01").mkdir()
    image = tmp_path / "2020-06-01" / "s2.tif"
    image.write_bytes(b"the only copy")
    with pytest.raises(UsageError, match="no product"):
        finish(tmp_path, mixed(30, 30), overwrite=overwrite)
    assert image.read_bytes() == b"the only copy" and names(tmp_path / "2020-06-01") == ["s2.tif"]
    image.unlink()
    assert finish(tmp_path, mixed(30, 30), overwrite=True).folder == tmp_path / "2020-06-01"


def test_a_product_that_the_run_reads_is_never_replaced(tmp_path):
    first = finish(tmp_path, mixed(30, 30))
    file = first.files["clear_10m"]
    before = file.read_bytes()
    with pytest.raises(UsageError, match="made from"):
        finish(tmp_path, replace(mixed(30, 30), decisions={"files": [str(file)]}), overwrite=True)
    assert file.read_bytes() == before


def some_blocks(out: Path, scene, n: int, **options) -> None:
    """A run that stops after n blocks."""
    with ProductWriter(out, scene, DATE, job={"model": "made"}, block=24, **options) as writer:
        for at in writer.todo()[:n]:
            writer.write(fill(scene, DATE, at, scene.masks[0][at.slices], guess_of(scene, at), layers=writer.layers))


def test_an_unfinished_run_is_continued_refused_or_started_anew(tmp_path):
    scene = mixed(60, 60)
    whole = finish(tmp_path / "whole", scene)
    out = tmp_path / "out"
    some_blocks(out, scene, 4)
    assert names(out) == ["2020-06-01.staging"]
    with pytest.raises(InputMissing, match="not a finished product"):
        load_product(out / "2020-06-01.staging")
    with pytest.raises(UsageError, match="4 of 9 blocks are done") as caught:
        finish(out, scene)
    assert "--resume" in str(caught.value)
    with pytest.raises(UsageError, match="different: model") as caught:
        finish(out, scene, resume=True, job={"model": "another"})
    with pytest.raises(UsageError, match="different: written_as"):
        finish(out, scene, resume=True, block=36)
    with ProductWriter(out, scene, DATE, job={"model": "made"}, block=24, resume=True) as writer:
        assert len(writer.todo()) == 5
    assert finish(out, scene, resume=True).manifest["digest"] == whole.manifest["digest"]
    assert names(out) == ["2020-06-01", "manifest.json"]
    some_blocks(out, scene, 2, overwrite=True)
    anew = finish(out, scene, overwrite=True)
    assert anew.manifest["digest"] == whole.manifest["digest"]


def test_a_run_that_may_overwrite_goes_on_with_its_own_blocks_only(tmp_path):
    scene = mixed(60, 66)
    for job, left in (({"model": "made"}, 5), ({"model": "another"}, 9)):
        some_blocks(tmp_path, scene, 4, overwrite=True)
        with ProductWriter(tmp_path, scene, DATE, job=job, block=24, resume=True, overwrite=True) as writer:
            assert len(writer.todo()) == left


def test_a_run_without_a_block_leaves_nothing(tmp_path):
    scene = mixed(30, 30)
    with pytest.raises(ValueError, match="a reader failed"), ProductWriter(tmp_path, scene, DATE, job={}, block=24):
        raise ValueError("a reader failed")
    assert names(tmp_path) == []


def test_resuming_what_is_finished_returns_it(tmp_path):
    scene = mixed(30, 30)
    first = finish(tmp_path, scene)
    with ProductWriter(tmp_path, scene, DATE, job={"model": "made"}, block=24, resume=True) as writer:
        assert writer.finished and writer.todo() == []
        assert writer.publish().manifest == first.manifest


def test_damaged_blocks_are_done_again(tmp_path):
    scene = mixed(60, 60)
    whole = finish(tmp_path / "whole", scene).manifest["digest"]
    out = tmp_path / "out"
    some_blocks(out, scene, 9)
    blocks = sorted((out / "2020-06-01.staging" / "blocks").iterdir())
    data = bytearray(blocks[2].read_bytes())
    data[len(data) // 2] ^= 1
    blocks[2].write_bytes(data)
    blocks[5].write_bytes(blocks[5].read_bytes()[:50])
    blocks[7].unlink()
    with ProductWriter(out, scene, DATE, job={"model": "made"}, block=24, resume=True) as writer:
        assert len(writer.damaged) == 3 and writer.todo() == sorted(writer.damaged)
    assert finish(out, scene, resume=True).manifest["digest"] == whole


def test_a_block_damaged_while_the_run_goes_on_stops_publication(tmp_path):
    scene = mixed(30, 30)
    with ProductWriter(tmp_path, scene, DATE, job={"model": "made"}, block=24) as writer:
        for at in writer.todo():
            writer.write(fill(scene, DATE, at, scene.masks[0][at.slices], guess_of(scene, at), layers=writer.layers))
        victim = next((writer.staging / "blocks").iterdir())
        victim.write_bytes(victim.read_bytes()[::-1])
        with pytest.raises(TryAgain, match="--resume") as caught:
            writer.publish()
    assert caught.value.code == 75 and names(tmp_path) == ["2020-06-01.staging"]
    assert finish(tmp_path, scene, resume=True).manifest["pixels"]["nodata"] > 0


def test_publishing_too_early_and_foreign_blocks_are_refused(tmp_path):
    scene = mixed(30, 30)
    with ProductWriter(tmp_path, scene, DATE, job={}, block=24) as writer:
        at = writer.todo()[0]
        block = fill(scene, DATE, at, scene.masks[0][at.slices], guess_of(scene, at))
        with pytest.raises(RecordError, match="4 of 4 blocks"):
            writer.publish()
        with pytest.raises(RecordError, match="not a block"):
            writer.write(replace(block, window=at._replace(row=6)))
        with pytest.raises(RecordError, match="age: a block of"):
            writer.write(replace(block, age=block.age.astype(np.int32)))
    with pytest.raises(RecordError, match="multiple of 6"):
        ProductWriter(tmp_path, scene, DATE, job={}, block=20)


def test_two_runs_on_one_output_exclude_each_other(tmp_path):
    scene = mixed(30, 30)
    with ProductWriter(tmp_path, scene, DATE, job={}, block=24):
        with pytest.raises(OutputFailed, match=f"process {os.getpid()}") as caught:
            finish(tmp_path, scene)
        assert caught.value.code == 20
    assert finish(tmp_path, scene).manifest["pixels"]["observed"] > 0
    assert names(tmp_path) == ["2020-06-01", "manifest.json"]


def test_a_lock_of_a_dead_run_is_taken_over_and_of_another_host_respected(tmp_path):
    scene = mixed(30, 30)
    lock = tmp_path / "2020-06-01.lock"
    lock.write_text(json.dumps({"host": os.uname().nodename, "pid": 999_999_999, "boot": "an earlier one"}))
    finish(tmp_path, scene)
    assert not lock.exists()
    lock.write_text(json.dumps({"host": "another-machine", "pid": 1, "boot": ""}))
    with pytest.raises(OutputFailed, match="another-machine"):
        finish(tmp_path, scene, overwrite=True)
    assert lock.exists() and load_product(tmp_path / "2020-06-01", verify=True)


def test_too_little_room_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(product, "SPACE", 1e12)
    with pytest.raises(OutputFailed, match="too little room") as caught:
        finish(tmp_path, mixed(30, 30))
    assert caught.value.code == 20 and names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kilobytes", [96, 200, 320, 480])
def test_a_full_disk_leaves_the_old_product_and_can_be_resumed(tmp_path, monkeypatch, kilobytes):
    disk, scene = tmp_path / "disk", mixed(150, 150)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        monkeypatch.setattr(product, "SPACE", 0.0)
        old = finish(disk, scene, limits=Limits(max_age=1), job={"old": 1}).manifest["digest"]
        used = sum(p.stat().st_blocks * 512 for p in disk.rglob("*") if p.is_file()) // 1024
        remount(disk, used + kilobytes)
        with pytest.raises(OutputFailed, match="disk is full") as caught:
            finish(disk, scene, overwrite=True, resume=True)
        assert caught.value.code == 20 and "--resume" in str(caught.value)
        assert load_product(disk / "2020-06-01", verify=True).manifest["digest"] == old
        remount(disk, 8000)
        new = finish(disk, scene, overwrite=True, resume=True)
        assert new.manifest["digest"] == finish(tmp_path / "elsewhere", scene).manifest["digest"] != old
    finally:
        subprocess.run(["umount", disk], check=True)


def remount(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_each_failing_call_leaves_the_old_product_and_can_be_resumed(tmp_path, monkeypatch, call, number):
    """The n-th call fails, for a spread of n, until a run gets through."""
    scene = mixed(30, 30)
    old = finish(tmp_path, scene, limits=Limits(max_age=1), job={"old": 1}).manifest["digest"]
    true, failed, n, said = getattr(os, call), 0, 1, set()
    while True:
        left = [n]

        def failing(*args, left=left, **options):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(number, os.strerror(number), "somewhere")
            return true(*args, **options)

        monkeypatch.setattr(os, call, failing)
        try:
            new = finish(tmp_path, scene, overwrite=True, resume=True)
        except OutputFailed as error:
            failed += 1
            said.add(error.code)
        else:
            break
        finally:
            monkeypatch.setattr(os, call, true)
        there = load_product(tmp_path / "2020-06-01", verify=True).manifest
        assert there["digest"] == old or there["job"]["model"] == "made"
        n += 1 if call != "fsync" else 4
    assert said <= {20}
    assert failed >= {"fsync": 2, "replace": 2, "rename": 0}[call]
    assert new.manifest["digest"] != old and names(tmp_path) == ["2020-06-01", "manifest.json"]


def test_without_an_atomic_swap_a_kill_between_two_renames_is_put_right(tmp_path, monkeypatch):
    scene = mixed(30, 30)
    old = finish(tmp_path, scene, limits=Limits(max_age=1), job={"old": 1}).manifest["digest"]
    monkeypatch.setattr(product, "exchange", lambda one, other: False)
    true, calls = os.rename, []

    def second_fails(a, b):
        calls.append(a)
        if len(calls) == 2:
            raise OSError(errno.EIO, "killed here")
        true(a, b)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(OutputFailed):
        finish(tmp_path, scene, overwrite=True)
    monkeypatch.setattr(os, "rename", true)
    assert not (tmp_path / "2020-06-01").exists() and (tmp_path / "2020-06-01.replaced").exists()
    with pytest.raises(UsageError):
        finish(tmp_path, scene, job={"yet": "another"})
    assert load_product(tmp_path / "2020-06-01", verify=True).manifest["digest"] == old
    new = finish(tmp_path, scene, overwrite=True, resume=True)
    assert new.manifest["digest"] != old and names(tmp_path) == ["2020-06-01", "manifest.json"]


def test_a_raster_is_deflated_by_as_many_threads_as_there_are_processes(tmp_path, monkeypatch):
    told = []

    def here(work, planes, count):  # threads only where no other process is begun afterwards
        told.append((work.threads, count))
        return map(replace(work, threads=1), planes)

    monkeypatch.setattr(product, "in_processes", here)
    scene = mixed(30, 30)
    with ProductWriter(tmp_path, scene, DATE, job={}) as writer:
        for window in writer.todo():
            writer.write(fill(scene, DATE, window, scene.masks[0][window.slices], None))
        writer.publish(workers=3)
    assert told == [(3, 3)] and finish(tmp_path / "one", scene).manifest and told[1] == (1, 1)


def test_a_raster_that_does_not_read_back_is_not_published(tmp_path, monkeypatch):
    def bent(path, plane, pieces, **options):
        cog.write_cog(path, plane, ((at, values if at.row else values ^ 1) for at, values in pieces), **options)

    monkeypatch.setattr(assembly, "write_cog", bent)
    with pytest.raises(VerificationFailed, match="does not read back") as caught:
        finish(tmp_path, mixed(30, 30))
    assert caught.value.code == 23 and not (tmp_path / "2020-06-01").exists()

    def torn(path, plane, pieces, **options):
        cog.write_cog(path, plane, pieces, **options)
        path.write_bytes(path.read_bytes()[:-300])

    monkeypatch.setattr(assembly, "write_cog", torn)
    with pytest.raises(VerificationFailed):
        finish(tmp_path, mixed(30, 30), resume=True)
    monkeypatch.undo()
    assert finish(tmp_path, mixed(30, 30), resume=True).manifest["pixels"]["observed"] > 0


def test_products_that_were_changed_later_are_found_out(tmp_path):
    made = finish(tmp_path, mixed(30, 30))
    assert load_product(made.folder, verify=True).manifest == made.manifest
    data = bytearray(made.files["clear_10m"].read_bytes())
    data[-20] ^= 4
    made.files["clear_10m"].write_bytes(data)
    with pytest.raises(InputCorrupt, match="SHA-256"):
        load_product(made.folder, verify=True)
    made.files["clear_10m"].unlink()
    with pytest.raises(InputCorrupt, match="clear_10m"):
        load_product(made.folder)
    (made.folder / "manifest.json").write_text("{")
    with pytest.raises(InputCorrupt, match="manifest cannot be read"):
        load_product(made.folder)
    (made.folder / "manifest.json").unlink()
    with pytest.raises(InputMissing, match="manifest"):
        load_product(made.folder)


def test_a_read_only_folder_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed) as caught:
        finish(tmp_path / "file" / "out", mixed(12, 12))
    assert caught.value.code == 20 and "Nothing was published" in str(caught.value)


def test_several_dates_are_listed(tmp_path):
    scene = mixed(12, 12)
    finish(tmp_path, scene)
    later = replace(scene, dates=scene.dates + 5)
    with ProductWriter(tmp_path, later, later.dates[0], job={}, block=24) as writer:
        at = writer.todo()[0]
        writer.write(fill(later, later.dates[0], at, scene.masks[0], guess_of(scene, at)))
        writer.publish()
    listed = json.loads((tmp_path / "manifest.json").read_text())["products"]
    assert [entry["date"] for entry in listed] == ["2020-06-01", "2020-06-06"]


def test_ids_are_safe_file_names():
    assert product_id("T31UFS", DATE) == "T31UFS_20200601"
    assert product_id("../../etc/<b>pa ss</b>\n", DATE) == "etc_b_pa_ss_b_20200601"
    assert product_id("ü", DATE) == "place_20200601"


def test_plain_json_of_what_a_run_may_hold():
    value = {"a": np.float32(0.5), "b": [np.nan, np.int16(3)], 4: (DATE, Path("x/y")), "c": np.array([True, False]), "d": None}
    assert plain(value) == {"a": 0.5, "b": [None, 3], "4": ["2020-06-01", "x/y"], "c": [True, False], "d": None}


def test_one_cog_at_scene_resolution(tmp_path):
    scene = mixed(31, 26, 4)
    made = finish(tmp_path, scene, resolution=10)
    assert "clear" in made.files and "clear_60m" not in made.files and made.clear == (made.files["clear"],)
    got, clear = read(made.files["clear"]), scene.masks[0] == Cover.CLEAR
    assert got.shape == (6, 31, 26)
    np.testing.assert_array_equal(got[1:4][:, clear], scene.source.dn[0][:, clear])
    assert not hidden(scene.masks[0])[clear].any() and layer("", FINE, (1, 1), 1).bands == FINE
