"""Processes that work, fail, vanish and crash: every item is done once or the run ends in words."""

from __future__ import annotations

import os
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.chores import corrupt, faulty, here, naps, square, threads
from unclouded.errors import InputCorrupt, TryAgain
from unclouded.workers import _Waiting, in_processes


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_item_is_done_once(count):
    assert sorted(in_processes(square, list(range(12)), count)) == [n * n for n in range(12)]


@given(st.integers(0, 40), st.integers(1, 5), st.lists(st.integers(0, 4), max_size=200))
def test_items_are_handed_out_once_and_neighbours_together(items, count, asked):
    waiting, seen = _Waiting(range(items), count), []
    for place in [*(place % count for place in asked), *(n % count for n in range(items * count))]:
        before = [len(run) for run in waiting.runs]
        if (task := waiting.next(place)) is not None:
            seen.append(task.item)
            if before[place] > 1:
                assert waiting.runs[place][0].item == task.item + 1
        else:
            assert not any(before)
    assert sorted(seen) == list(range(items))


def test_who_is_through_takes_the_far_half_of_the_longest():
    waiting = _Waiting(range(9), 2)
    assert [waiting.next(0).item for _ in range(4)] == [0, 1, 2, 3]
    assert waiting.next(0).item == 6 and [task.item for task in waiting.runs[0]] == [7, 8]
    assert [task.item for task in waiting.runs[1]] == [4, 5]


def test_one_process_or_one_item_is_done_right_here():
    assert set(in_processes(here, [1, 2, 3], 1)) == {os.getpid()} == set(in_processes(here, [1], 4))
    others = set(in_processes(here, list(range(8)), 2))
    assert os.getpid() not in others and 1 <= len(others) <= 2
    assert list(in_processes(square, [], 2)) == []


def test_processes_have_one_thread_and_a_bounded_cache():
    assert set(in_processes(threads, [1, 2], 2, cache_mib=33)) == {(1, "33")}


@pytest.mark.parametrize("how", ["raise", "exit", "segfault", "kill"])
def test_an_item_that_fails_twice_is_done_the_third_time(tmp_path, how):
    done = list(in_processes(partial(faulty, tmp_path, how=how, times=2), list(range(6)), 2))
    assert sorted(done) == [n * n for n in range(6)] and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("how", "words"), [("raise", "a passing fault"), ("exit", "code 7"), ("segfault", "code -11")])
def test_an_item_that_always_fails_ends_the_run_in_words(tmp_path, how, words):
    with pytest.raises(TryAgain, match="failed 3 times") as caught:
        list(in_processes(partial(faulty, tmp_path, how=how, times=99), list(range(6)), 2))
    assert words in str(caught.value) and caught.value.where == "3" and caught.value.code == 75


def test_an_error_in_words_ends_the_run_at_once():
    with pytest.raises(InputCorrupt) as caught:
        list(in_processes(corrupt, list(range(50)), 2))
    assert (caught.value.where, caught.value.do) == ("B02.tif", "download it again")


def test_stopping_early_leaves_no_process():
    import multiprocessing

    before = set(multiprocessing.active_children())
    results = in_processes(square, list(range(50)), 2)
    next(results)
    assert len(set(multiprocessing.active_children()) - before) == 2
    results.close()
    assert set(multiprocessing.active_children()) == before


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_random_deaths_lose_nothing(seed):
    done = in_processes(partial(naps, seed), list(range(60)), 3, attempts=6)  # three would not do once in 600 tests
    assert sorted(done) == list(range(60))
