"""The journal: whole lines count, torn and mangled ones do not, and bytes are checked before they are believed."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.errors import RecordError
from unclouded.products.journal import BlockDamaged, Check, Journal, Lock, exchange, job_digest, pack, write_file
from unclouded.sample import Window

A, B = Window(0, 0, 4, 5), Window(0, 5, 4, 3)


def arrays(window: Window, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([seed, *window])
    shape = (2, window.height, window.width)
    return rng.integers(0, 65_535, shape, np.uint16), rng.normal(size=shape).astype(np.float32), np.zeros((0, 3))


def fresh(folder) -> Journal:
    folder.mkdir(exist_ok=True)
    return Journal(folder)


def same(journal: Journal, window: Window, seed: int = 0) -> None:
    for n, array in enumerate(arrays(window, seed)):
        np.testing.assert_array_equal(journal.read(window, n, str(array.dtype), array.shape), array)


def test_evenness_is_the_share_of_blocks_that_hold_one_value(tmp_path):
    journal = fresh(tmp_path / "s")
    assert journal.evenness(0) == 0
    for n, window in enumerate((A, B, Window(4, 0, 2, 2), Window(4, 2, 2, 2))):
        varied = np.arange(window.height * window.width, dtype=np.uint16)
        journal.add(window, (varied, np.full(50, n, np.uint8), varied if n < 3 else np.full(9, 7, np.uint16)), {})
    assert [journal.evenness(n) for n in range(3)] == [0, 1, 0.25]


def test_blocks_come_back_after_reopening(tmp_path):
    journal = fresh(tmp_path / "s")
    journal.add(A, arrays(A), {"observed": 20})
    journal.add(B, arrays(B), {"observed": 12})
    again = Journal(tmp_path / "s")
    assert set(again.entries) == {A, B} and again.entries[A].pixels == {"observed": 20}
    same(again, A)
    same(again, B)
    again.add(A, arrays(A, 9), {"observed": 0})
    same(Journal(tmp_path / "s"), A, 9)
    assert Journal(tmp_path / "s").forget_damaged() == []


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_torn_tail_is_ignored_and_written_over(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("j") / "s"
    journal = fresh(folder)
    for window in (A, B):
        journal.add(window, arrays(window), {"observed": 1})
    path = folder / "journal.jsonl"
    data = path.read_bytes()
    kept = data[: max(0, len(data) - cut)]
    path.write_bytes(kept)
    again = Journal(folder)
    assert len(again.entries) == kept.count(b"\n")
    again.add(B, arrays(B, 3), {"observed": 2})
    final = Journal(folder)
    same(final, B, 3)
    assert final.entries[B].pixels == {"observed": 2} and len(final.entries) == len({B, *again.entries})


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1), value=st.integers(1, 255), journalled=st.booleans())
def test_a_changed_byte_anywhere_never_gives_other_pixels(tmp_path_factory, at, value, journalled):
    folder = tmp_path_factory.mktemp("j") / "s"
    journal = fresh(folder)
    journal.add(A, arrays(A), {"observed": 1})
    victim = folder / "journal.jsonl" if journalled else next((folder / "blocks").iterdir())
    data = bytearray(victim.read_bytes())
    data[min(int(at * len(data)), len(data) - 1)] ^= value
    victim.write_bytes(data)
    again = Journal(folder)
    again.forget_damaged()
    if A in again.entries:
        same(again, A)


def test_reading_a_damaged_block_says_so(tmp_path):
    journal = fresh(tmp_path / "s")
    journal.add(A, arrays(A), {})
    with pytest.raises(BlockDamaged, match="checksum"):
        journal.read(A, 0, "uint16", (2, 4, 6))
    next((tmp_path / "s" / "blocks").iterdir()).unlink()
    with pytest.raises(BlockDamaged):
        journal.read(A, 0, "uint16", (2, 4, 5))
    assert journal.forget_damaged() == [A] and not journal.entries


def test_whole_bytes_of_another_run_are_not_believed(tmp_path):
    """A block of the same size, sound in itself, but not the one its line vouches for: killed between data and line."""
    mine, other = fresh(tmp_path / "mine"), fresh(tmp_path / "other")
    same_size = (np.zeros((1, 4, 5), np.uint8),), (np.full((1, 4, 5), 7, np.uint8),)
    mine.add(A, same_size[0], {})
    other.add(A, same_size[1], {})
    files = [next((tmp_path / name / "blocks").iterdir()) for name in ("mine", "other")]
    assert len(files[0].read_bytes()) == len(files[1].read_bytes())
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(BlockDamaged, match="checksum"):
        mine.read(A, 0, "uint8", (1, 4, 5))
    assert mine.forget_damaged() == [A]


def test_lines_of_other_kinds_are_skipped(tmp_path):
    journal = fresh(tmp_path / "s")
    journal.add(A, arrays(A), {"observed": 1})
    line = (tmp_path / "s" / "journal.jsonl").read_text()
    for strange in ("[]", "null", '{"block": [1]}', '{"block": [1,2,3,4], "pieces": [[1]], "pixels": {}}', "{", "\x00"):
        (tmp_path / "s" / "journal.jsonl").write_text(strange + "\n" + line)
        assert set(Journal(tmp_path / "s").entries) == {A}


def test_data_are_on_disk_before_the_line_that_vouches_for_them(tmp_path, monkeypatch):
    journal = fresh(tmp_path / "s")
    synced = []
    true = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), true(fd)))
    journal.add(A, arrays(A), {})
    assert [os.path.basename(path) for path in synced] == ["000000_000000.blk", "blocks", "journal.jsonl"]


def test_job_digests():
    assert job_digest({"a": 1, "b": [1, 2]}) == job_digest({"b": [1, 2], "a": 1})
    assert job_digest({"a": 1}) != job_digest({"a": 2}) != job_digest({"a": "2"})
    with pytest.raises(RecordError, match="JSON"):
        job_digest({"a": float("nan")})


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "manifest.json"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_two_folders_change_places_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system cannot exchange two folders")
    assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()
    assert not exchange(tmp_path / "a", tmp_path / "nowhere")


def test_a_lock_is_gone_after_use_and_names_its_owner(tmp_path):
    with Lock(tmp_path / "l") as lock:
        assert json.loads((tmp_path / "l").read_text())["pid"] == os.getpid()
        assert lock is not None
    assert not (tmp_path / "l").exists()
    (tmp_path / "l").write_text("rubbish")
    with Lock(tmp_path / "l"):
        assert json.loads((tmp_path / "l").read_text())["pid"] == os.getpid()


def test_rows_are_checked_one_after_the_other():
    varied, constant = np.arange(60, dtype=np.uint16).reshape(2, 6, 5), np.full((2, 6, 5), 9, np.uint16)
    for array in (varied, constant, np.broadcast_to(np.uint16(9), (2, 6, 5))):
        piece = pack((array,)).pieces[0]
        for row, changed in ((None, 0), (0, 1), (3, 1), (5, 1)):
            other = array.copy()
            if row is not None:
                other[1, row, 2] += changed
            check = Check(piece)
            for first, end in ((0, 2), (2, 3), (3, 6)):
                check.add(other[:, first:end])
            assert check.holds == (row is None)
    check = Check(pack((constant,)).pieces[0])
    check.add(constant + np.uint16(1))  # one value too, but another
    assert not check.holds


def test_one_value_in_all_blocks_is_known(tmp_path):
    journal = fresh(tmp_path / "s")
    journal.add(A, (np.zeros((2, 4, 5), np.uint16), np.zeros((1, 4, 5), np.uint8), arrays(A)[0]), {})
    journal.add(B, (np.zeros((2, 4, 3), np.uint16), np.ones((1, 4, 3), np.uint8), arrays(B)[0]), {})
    assert [journal.constant(n) for n in range(3)] == [True, False, False]
