"""What has to be read for a part of a scene: whole squares of the lattice and the margin, cut to the scene, and no more."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unclouded.models.needs import Needs
from unclouded.sample import Place, Window
from unclouded.scenes.scene import Scene

SHAPE = (500, 700)


def scene(origin: tuple[int, int]) -> Scene:
    place = Place(id="p", bands=("B02",), level="L2A", corner=origin)
    return Scene(place=place, shape=SHAPE, dates=np.array([], "datetime64[D]"), source=None)  # type: ignore[arg-type]


@given(
    st.tuples(st.integers(0, 400), st.integers(0, 600), st.integers(1, 100), st.integers(1, 100)),
    st.tuples(st.integers(-9999, 9999), st.integers(-9999, 9999)), st.sampled_from([1, 6, 64]), st.sampled_from([0, 7, 42]),
)  # fmt: skip
def test_outer_holds_the_squares_of_a_part_and_their_margin(part, origin, lattice, halo):
    needs, at, where = Needs(halo=halo, lattice=lattice), Window(*part), scene(origin)
    found = needs.outer(at, where)
    for axis in (0, 1):
        first, end = at[axis] + origin[axis], at[axis] + at[axis + 2] + origin[axis]
        wanted = first // lattice * lattice - halo - origin[axis], -(-end // lattice) * lattice + halo - origin[axis]
        assert found[axis] == max(wanted[0], 0)
        assert found[axis] + found[axis + 2] == min(wanted[1], SHAPE[axis])
        assert found[axis + 2] <= needs.widest(at[axis + 2])


def test_without_a_lattice_it_is_the_margin_alone():
    needs = Needs(halo=5)
    assert needs.outer(Window(10, 20, 3, 4), scene((3, 1))) == Window(5, 15, 13, 14)
    assert needs.widest(96) == 106
