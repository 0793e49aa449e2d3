"""Room 4: a scene into tiles (grid.cut) and back (blend.blend) with exact weights."""
