"""The ground of the simulated place: what grows and stands where, and of which pure surfaces every pixel is made on a day.

Parcels lie in blocks of one direction, as real farmland does; every parcel has a crop, its own calendar and a texture that
persists over the dates. Optical reflectance and radar backscatter are mixed from the same shares of surfaces and the same soil
moisture, so what one sensor sees of a change, the other sees too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.climates import CROP, CROPS, NAMES, Climate
from unclouded.datasets.lattice import Bits, Cells, Field, fractal, hashed, key, smooth, uniform


class LandCover(IntEnum):
    """What a pixel mainly is, whatever the date: the codes of `SimulatedPlace.landcover`."""

    CROP = 1
    GRASS = 2
    DECIDUOUS = 3
    CONIFER = 4
    GARDEN = 5
    ROOF = 6
    ROAD = 7
    WATER = 8


@dataclass(frozen=True, kw_only=True)
class Event:
    """A sudden change of a disc of ground from `day` on: a fire scar, a new building, or a harvest at one stroke.

    `row`, `col`: the centre in pixels of the place (None: its middle); `radius` in pixels.
    """

    kind: Literal["fire", "building", "harvest"]
    day: np.datetime64
    row: float | None = None
    col: float | None = None
    radius: float = 16.0

    def placed(self, shape: tuple[int, int], origin: tuple[int, int]) -> Event:
        """The event at absolute coordinates of the simulated world."""
        row = shape[0] / 2 if self.row is None else self.row
        col = shape[1] / 2 if self.col is None else self.col
        return replace(self, row=row + origin[0], col=col + origin[1])


@dataclass(frozen=True)
class Mixture:
    """Shares (surfaces, H, W) of the pure surfaces in every pixel; they add up to 1."""

    shares: Field
    moisture: Field  # (H, W) of bare soil, 0 dry .. 1 wet
    thaw: float  # 0 no or dry snow, 1 wet snow

    def inner(self) -> Mixture:
        """The same without the outermost pixels."""
        return Mixture(self.shares[:, 1:-1, 1:-1], self.moisture[1:-1, 1:-1], self.thaw)

    def share(self, name: str) -> Field:
        """(H, W): the share of one surface."""
        return self.shares[NAMES[name]]


class Ground:
    """The lasting part of the ground over rows (H,) and columns (W,), absolute pixel coordinates of the simulated world."""

    def __init__(self, climate: Climate, seed: int, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> None:
        self.climate, self.seed, self.rows, self.cols = climate, seed, rows, cols
        bend_r = 5 * smooth(key(seed, "bend r"), rows, cols, 70)
        bend_c = 5 * smooth(key(seed, "bend c"), rows, cols, 70)
        self._r: Field = rows[:, None].astype(np.float32) + bend_r
        self._c: Field = cols[None, :].astype(np.float32) + bend_c
        self.texture = fractal(key(seed, "texture"), rows, cols, 14, octaves=3, gain=0.7)
        self._lay_relief()
        self._lay_parcels()
        self._lay_forest()
        self._lay_town()
        self._lay_roads()
        self._lay_water()

    def _lay_relief(self) -> None:
        """Slopes east and north, dimensionless. 3.1: measured slope of a unit field times its wavelength."""
        scale = np.float32(self.climate.relief * 110 / 3.1)
        salt = key(self.seed, "relief")
        self.east: Field = scale * fractal(salt, self.rows, self.cols, 110, octaves=3, gain=0.42, slope="col")
        self.north: Field = -scale * fractal(salt, self.rows, self.cols, 110, octaves=3, gain=0.42, slope="row")

    def _lay_parcels(self) -> None:
        """Blocks (Voronoi cells) of one direction, cut into rows of bricks, some of them split into strips."""
        c, salt = self.climate, key(self.seed, "parcels")
        blocks = Cells(salt, self._r, self._c, c.block)
        u, v = _turned(self._r - blocks.row, self._c - blocks.col, _block_angle(salt, blocks.id))
        breadth = np.float32(c.parcel[1]) * (0.7 + 0.9 * uniform(salt + 1, blocks.id))
        strip = np.floor(v / breadth).astype(np.int32)
        length = np.float32(c.parcel[0]) * (0.6 + 1.3 * uniform(salt + 2, blocks.id, strip))
        along = u / length + 7 * uniform(salt + 3, blocks.id, strip)
        brick = np.floor(along).astype(np.int32)
        parts = np.array([1, 1, 1, 2, 3], np.int32)[hashed(salt + 4, blocks.id, strip, brick) % np.uint32(5)]
        within = (v / breadth - strip) * parts
        part = np.floor(within).astype(np.int32)
        self.parcel: Bits = hashed(salt + 5, blocks.id, strip, brick, part)
        inner = np.minimum(_to_edge(within, breadth / parts), _to_edge(along, length))
        self._margin: Field = np.clip(0.75 - np.minimum(inner, blocks.edge), 0, 0.6)
        lane = uniform(salt + 6, blocks.pair) < 0.5
        self._lane: Field = np.where(lane, np.clip(0.9 - blocks.edge, 0, 0.55), 0).astype(np.float32)
        self._ids, self._member = np.unique(self.parcel, return_inverse=True)
        self._member = self._member.reshape(self.parcel.shape)
        shares = np.cumsum([share for _, share in c.crops])
        kinds = np.array([CROP[name] for name, _ in c.crops])
        self._crop = kinds[np.minimum(np.searchsorted(shares, uniform(salt + 7, self._ids)), len(kinds) - 1)]
        lag = 16 * (uniform(salt + 8, self._ids) + uniform(salt + 9, self._ids) - 1)
        self._lag = lag.astype(np.float64)
        self._vigour = 0.82 + 0.18 * uniform(salt + 10, self._ids)
        self._rotation = uniform(salt + 11, self._ids)
        self._rows_pattern: Field = np.sin(v * np.float32(2 * np.pi / 3.1)) * np.float32(0.5)
        self._soil_tone: Field = (uniform(salt + 12, self._ids)[self._member] - 0.5) * 0.35 + 0.10 * self.texture
        self.rough: Field = (uniform(salt + 13, self._ids)[self._member] - 0.5) * 2.4

    def _lay_forest(self) -> None:
        c, salt = self.climate, key(self.seed, "forest")
        wild = fractal(salt, self.rows, self.cols, 95, octaves=4, gain=0.55)
        woodlot = uniform(salt + 1, self.parcel) < 0.25 * c.forest
        self.forest = (wild > NormalDist().inv_cdf(1 - c.forest)) | woodlot
        needles = fractal(salt + 2, self.rows, self.cols, 60, octaves=3)
        level = NormalDist().inv_cdf(min(max(1 - c.conifer, 1e-3), 1 - 1e-3))
        self._needle: Field = np.clip(0.5 + 2.2 * (needles - np.float32(level)), 0, 1)
        grain = uniform(salt + 3, self.rows[:, None], self.cols[None, :]) - np.float32(0.5)
        self.crowns: Field = 0.65 * grain + 0.20 * fractal(salt + 4, self.rows, self.cols, 7, octaves=2)
        self._trees: Field = (grain > 0.5 - np.float32(c.scattered)).astype(np.float32) * 0.8

    def _lay_town(self) -> None:
        c, salt = self.climate, key(self.seed, "town")
        sites = Cells(salt, self._r, self._c, 200)
        chance, big = uniform(salt + 3, sites.id), uniform(salt + 4, sites.id)
        radius = np.where(chance < c.town, 13 + 42 * big * big, -99).astype(np.float32)
        reach = np.hypot(self._r - sites.row, self._c - sites.col)
        ragged = (0.3 * radius + 4) * fractal(salt + 5, self.rows, self.cols, 48, octaves=4, gain=0.6)
        self._built = (reach - ragged < radius) & (radius > 0) & ~self.forest
        u, v = _turned(self._r - sites.row, self._c - sites.col, _block_angle(salt + 6, sites.id))
        street = np.minimum(_to_edge(u / 11, np.float32(11)), _to_edge(v / 7.5, np.float32(7.5)))
        self._street: Field = np.where(self._built, np.clip(1.0 - street, 0, 0.75), 0).astype(np.float32)
        works = smooth(salt + 7, self.rows, self.cols, 30) > 1.3  # industry: few large flat roofs
        plot_u = np.floor(np.where(works, u / 9, u / 1.9)).astype(np.int32)
        plot_v = np.floor(np.where(works, v / 6, v / 1.7)).astype(np.int32)
        has, kind = uniform(salt + 8, sites.id, plot_u, plot_v), uniform(salt + 9, sites.id, plot_u, plot_v)
        density = np.clip(0.75 - 0.5 * reach / np.maximum(radius, 1), 0.25, 0.75)
        roof = np.where(works, np.where(has < 0.5, 0.5 + 0.9 * has, 0.0), np.where(has < density, 0.35 + 0.5 * kind, 0.0))
        self._roof: Field = np.where(self._built, roof, 0).astype(np.float32)
        self._roof_kind: NDArray[np.int64] = np.where(
            works, np.where(kind < 0.45, NAMES["metal"], NAMES["slate"]),
            np.where(kind < 0.60, NAMES["tiles"], np.where(kind < 0.985, NAMES["slate"], NAMES["metal"])),
        )  # fmt: skip
        self.corner: Field = np.where(self._built, (has * kind < 0.035) * np.float32(8.0), 0).astype(np.float32)

    def _lay_roads(self) -> None:
        salt = key(self.seed, "roads")
        net = Cells(salt, self._r, self._c, 145)
        rank = uniform(salt + 1, net.pair)
        width = np.where(rank < 0.10, 2.6, np.where(rank < 0.72, 1.1, -9)).astype(np.float32)
        self._road: Field = np.clip(width / 2 + 0.5 - net.edge, 0, 1)

    def _lay_water(self) -> None:
        """Meandering rivers, one about every 330 pixels across their common direction, and lakes."""
        salt, period = key(self.seed, "water"), np.float32(330)
        turn = float(uniform(salt, np.array([0]))[0]) * np.pi
        dr, dc = float(np.cos(turn)), float(np.sin(turn))
        bends = ((48.0, 120.0), (15.0, 42.0))
        across = np.float32(dr) * self.rows[:, None] + np.float32(dc) * self.cols[None, :]
        across = across + period * uniform(salt + 1, np.array([0]))
        slope_r: Any = np.float32(dr)
        slope_c: Any = np.float32(dc)
        for n, (amplitude, wavelength) in enumerate(bends):
            across = across + np.float32(amplitude) * smooth(salt + 2 + n, self.rows, self.cols, wavelength)
            slope_r = slope_r + np.float32(amplitude) * smooth(salt + 2 + n, self.rows, self.cols, wavelength, slope="row")
            slope_c = slope_c + np.float32(amplitude) * smooth(salt + 2 + n, self.rows, self.cols, wavelength, slope="col")
        phase = across / period
        course = np.floor(phase).astype(np.int32)
        self._bank: Field = np.abs(phase - course - 0.5) * period / np.maximum(np.hypot(slope_r, slope_c), np.float32(0.4))
        width = 1.2 + 3.6 * uniform(salt + 5, course) + 0.4 * smooth(salt + 6, self.rows, self.cols, 30)
        river = np.clip(width / 2 + 0.5 - self._bank, 0, 1)
        ponds = Cells(salt + 7, self._r, self._c, 170)
        size = 7 + 17 * uniform(salt + 10, ponds.id)
        shore = np.hypot(self._r - ponds.row, 1.4 * (self._c - ponds.col)) + 5 * smooth(salt + 11, self.rows, self.cols, 16)
        lake = np.where(uniform(salt + 12, ponds.id) < 2.2 * self.climate.lake, np.clip(size - shore, 0, 1), 0)
        self.water: Field = np.maximum(river, lake).astype(np.float32)
        self._turbid: Field = np.clip(0.2 + 0.25 * smooth(salt + 13, self.rows, self.cols, 90) + 0.15 * (river > lake), 0, 1)
        self._floodplain = (self._bank < 8 + 5 * self.texture) & ~self.forest

    @property
    def landcover(self) -> NDArray[np.uint8]:
        """(H, W) codes of `LandCover`: the class of the largest share."""
        grass = [CROPS[k].leaf == "grass" for k in self._crop]
        cover = np.where(np.array(grass)[self._member] | self._floodplain, LandCover.GRASS, LandCover.CROP)
        cover = np.where(self.forest, np.where(self._needle > 0.5, LandCover.CONIFER, LandCover.DECIDUOUS), cover)
        cover = np.where(self._built, np.where(self._roof > 0.5, LandCover.ROOF, LandCover.GARDEN), cover)
        cover = np.where(np.maximum(self._road, self._street) > 0.5, LandCover.ROAD, cover)
        return np.where(self.water > 0.5, LandCover.WATER, cover).astype(np.uint8)

    def crop_names(self) -> NDArray[np.str_]:
        """(H, W): the name of the crop of every parcel, also under towns, woods and water."""
        return np.array([CROPS[k].name for k in self._crop])[self._member]

    def moisture(self, day: np.datetime64) -> Field:
        """(H, W) in [0, 1]: wetness of bare soil from the rain of the last three weeks."""
        number = int(day.astype("datetime64[D]").astype(np.int64))
        level = 0.0
        for back in range(21):
            level += _rain(self.climate, self.seed, number - back) * float(np.exp(-back / 4.5))
        patch = 1 + 0.25 * smooth(key(self.seed, "patch"), self.rows, self.cols, 55)
        return np.clip(0.08 + np.float32(level / 22) * patch + 0.10 * self.texture, 0, 1)

    def mixture(self, day: np.datetime64, events: tuple[Event, ...] = ()) -> Mixture:
        """What every pixel consists of on a day."""
        shares = np.zeros((len(NAMES), *self.parcel.shape), np.float32)
        moisture = self.moisture(day)
        self._grow(shares, day, moisture, events)
        self._wood(shares, day)
        self._build(shares)
        for event in events:
            if event.kind != "harvest" and day >= event.day:
                self._strike(shares, event, day)
        _cover(shares, np.maximum(self._road, np.maximum(self._street, self._lane * ~self.forest)), "asphalt")
        _cover(shares, self.water * (1 - self._turbid), "water", self.water)
        shares[NAMES["turbid"]] += self.water * self._turbid
        snow, thaw = self._snow(day)
        if snow is not None:
            _cover(shares, snow, "snow")
        return Mixture(shares, moisture, thaw)

    def _grow(self, shares: Field, day: np.datetime64, moisture: Field, events: tuple[Event, ...]) -> None:
        """Farmland: leaf, flower, straw and standing water per parcel, soil for the rest."""
        states = np.zeros((4, len(self._ids)))
        for crop in np.unique(self._crop):
            of = self._crop == crop
            states[:, of] = _parcel_states(int(crop), _day_of_year(day), self._lag[of], self._vigour[of], self._rotation[of])
        green, dry, bloom, flood = states.astype(np.float32)[:, self._member]
        lively = 1 + (0.13 * self.texture + 0.05 * self._rows_pattern) * (1.25 - green)
        green = np.clip(green * lively, 0, 0.98)
        meadow = self._floodplain
        green = np.where(meadow, np.clip(0.78 + 0.10 * self.texture, 0.4, 0.97) * _season(self.climate, day), green)
        dry, bloom, flood = (np.where(meadow, extra, x) for x, extra in ((dry, 0.12), (bloom, 0.0), (flood, 0.0)))
        for event in events:
            if event.kind == "harvest" and day >= event.day:
                cut = self._disc(event)
                green, dry, bloom = green * (1 - 0.9 * cut), np.maximum(dry * (1 - cut), 0.45 * cut), bloom * (1 - cut)
        dry = np.minimum(dry, 1 - green)
        flood = np.minimum(flood, 1 - green - dry)
        soil = np.maximum(1 - green - dry - flood, 0)
        open_ground = 1 - self._margin
        leaves = np.array([NAMES[CROPS[k].leaf] for k in self._crop])[self._member]
        leaves = np.where(meadow, NAMES["grass"], leaves)
        for leaf in np.unique(np.array([NAMES[CROPS[CROP[n]].leaf] for n, _ in self.climate.crops] + [NAMES["grass"]])):
            shares[leaf] += np.where(leaves == leaf, green * (1 - bloom) * open_ground, 0)
        shares[NAMES["flower"]] += green * bloom * open_ground
        shares[NAMES["straw"]] += dry * open_ground
        shares[NAMES["turbid"]] += flood * open_ground
        shares[NAMES["grass"]] += 0.7 * self._margin * _season(self.climate, day)
        bare = soil * open_ground + self._margin * (1 - 0.7 * _season(self.climate, day))
        wet = np.clip(moisture + self._soil_tone, 0, 1)
        red = np.float32(self.climate.red) * np.clip(1 + 0.3 * self.texture, 0, 1.4)
        red = np.minimum(red, 1)
        shares[NAMES["wet soil"]] += bare * wet
        shares[NAMES["red soil"]] += bare * (1 - wet) * red
        shares[NAMES["soil"]] += bare * (1 - wet) * (1 - red)
        if self.climate.scattered > 0.06:
            _cover(shares, self._trees * np.where(leaves == NAMES["grass"], 0.8, 0.25).astype(np.float32), "dark leaf")

    def _wood(self, shares: Field, day: np.datetime64) -> None:
        leaf = np.float32(_leaf_on(self.climate, day))
        shares *= ~self.forest
        wood = self.forest.astype(np.float32)
        dense = np.clip(0.95 + 0.05 * self.texture, 0.8, 1)
        shares[NAMES["conifer"]] += wood * self._needle * dense
        shares[NAMES["broadleaf"]] += wood * (1 - self._needle) * dense * leaf
        shares[NAMES["bare wood"]] += wood * (1 - dense + (1 - self._needle) * dense * (1 - leaf))

    def _build(self, shares: Field) -> None:
        built = self._built.astype(np.float32)
        garden = built * (1 - self._roof)
        shares *= 1 - built
        tree = np.clip(0.25 + 0.8 * self.crowns, 0, 0.7)
        shares[NAMES["dark leaf"]] += garden * tree * 0.7
        shares[NAMES["grass"]] += garden * (1 - tree) * 0.55
        shares[NAMES["asphalt"]] += garden * (1 - tree) * 0.45
        shares[NAMES["bare wood"]] += garden * tree * 0.3
        for name in ("tiles", "slate", "metal"):
            shares[NAMES[name]] += np.where(self._roof_kind == NAMES[name], built * self._roof, 0)

    def _disc(self, event: Event) -> Field:
        reach = np.hypot(self.rows[:, None] - np.float32(event.row or 0), self.cols[None, :] - np.float32(event.col or 0))
        ragged = 0.0 if event.kind == "building" else 0.22 * event.radius * self.texture
        return np.clip(event.radius - reach + ragged + 0.5, 0, 1).astype(np.float32)

    def _strike(self, shares: Field, event: Event, day: np.datetime64) -> None:
        if event.kind == "building":
            _cover(shares, self._disc(event) * np.float32(0.95), "metal")
            return
        age = int((day - event.day).astype(int))
        severity = np.clip(0.82 + 0.15 * self.texture, 0, 0.97) * np.float32(np.exp(-age / 120))
        _cover(shares, self._disc(event) * (1 - self.water) * severity, "char")

    def _snow(self, day: np.datetime64) -> tuple[Field | None, float]:
        """The share of every pixel under snow, and how wet it is. Melts patchily; trees hide most of what lies beneath."""
        first, last = self.climate.snow
        if last <= first:
            return None, 0.0
        doy = _day_of_year(day)
        early = doy - 365 if doy > 250 else doy
        depth = min((early - first) / 12, (last - early) / 30, 1.0)
        if depth <= -0.5:
            return None, 0.0
        patchy = np.float32(0.16) * fractal(key(self.seed, "drift"), self.rows, self.cols, 20, octaves=3) + 0.25
        lying = np.clip((np.float32(depth) - patchy) / 0.12, 0, 1)
        under = np.where(self.forest, 0.18 + 0.25 * (1 - self._needle), np.where(self._built, 0.65, 1.0))
        under = np.where(np.maximum(self._road, self._street) > 0.4, 0.45, under) * (1 - 0.35 * np.clip(self.crowns, 0, 1))
        return (lying * under).astype(np.float32), float(np.clip(1 - (last - 12 - early) / 20, 0, 1))


def _cover(shares: Field, part: Field, name: str, displaced: Field | None = None) -> None:
    """Let a surface take `part` of every pixel from what was there (or only add it, where `displaced` was taken)."""
    keep = 1 - (part if displaced is None else displaced)
    shares *= keep
    shares[NAMES[name]] += part


def _turned(r: Field, c: Field, angle: Any) -> tuple[Field, Field]:
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * r + sin * c, cos * c - sin * r


def _block_angle(salt: int, ids: Bits) -> Any:
    """A direction per block: mostly one of the country's two main ones, a little turned; sometimes any."""
    main = np.float32(key(salt, "direction") % 3142 / 1000)
    turn = uniform(salt + 20, ids)
    quarter = np.where(uniform(salt + 21, ids) < 0.5, np.float32(np.pi / 2), np.float32(0))
    return np.where(uniform(salt + 22, ids) < 0.7, main + quarter + 0.5 * (turn - 0.5), np.float32(np.pi) * turn)


def _to_edge(along: Any, length: Any) -> Any:
    part = along - np.floor(along)
    return np.minimum(part, 1 - part) * length


def _day_of_year(day: np.datetime64) -> int:
    date = day.astype("datetime64[D]")
    return int((date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)) + 1


def _rise(t: NDArray[np.float64], middle: float, speed: float) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip((t - middle) / speed, -40, 40)))


def _season(climate: Climate, day: np.datetime64) -> float:
    """How green wild grass is, 0.45 .. 1."""
    t = np.array([float(_day_of_year(day))])
    on, off = climate.leaf_on
    start, end = (on - 25, off + 15) if climate.red == 0 else (climate.wet[0], climate.wet[1] + 40)
    cycle = max(_cycle(t + shift, start, 15, end, 20)[0] for shift in (-365, 0, 365))
    return 0.45 + 0.55 * float(cycle)


def _leaf_on(climate: Climate, day: np.datetime64) -> float:
    t = np.array([float(_day_of_year(day))])
    return float(_cycle(t, climate.leaf_on[0], 6, climate.leaf_on[1], 9)[0])


def _cycle(t: NDArray[np.float64], start: float, speed: float, end: float, fading: float) -> NDArray[np.float64]:
    """The double logistic curve of a season (Beck et al. 2006)."""
    return _rise(t, start, speed) * (1 - _rise(t, end, fading))


def _parcel_states(
    crop: int, doy: int, lag: NDArray[np.float64], vigour: NDArray[np.float32], rotation: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Green, dry, blooming and flooded shares of parcels of one crop, (4, parcels)."""
    kind = CROPS[crop]
    best = np.zeros((4, len(lag)))
    for shift in (0, -365, 365, *((-kind.again,) if kind.again else ())):
        t = doy + shift - lag
        green = kind.winter * _rise(t, -55, 9) + (kind.peak - kind.winter) * _rise(t, kind.start, kind.speed)
        fade = _rise(t, kind.end, kind.fading)
        dry = 0.85 * green * fade * (t > kind.start) * np.exp(-np.maximum(t - kind.end - 60, 0) / 25)
        green = green * (1 - fade) * vigour
        if kind.harvest:
            after = t >= kind.harvest
            stubble = 0.6 * np.exp(-np.maximum(t - kind.harvest, 0) / 22) * (t < kind.harvest + 120)
            catch = 0.55 * _rise(t, kind.harvest + 48, 7) * (rotation < 0.4) * (t < kind.harvest + 150) * (kind.again == 0)
            green, dry = np.where(after, catch, green), np.where(after, np.minimum(stubble, 1 - catch), dry)
        if kind.cuts and green.any():
            since = (doy + 400 - 105 - rotation * kind.cuts) % kind.cuts
            green = green * (1 - 0.5 * np.exp(-since / 11) * ((doy > 125) & (doy < 290)))
        bloom = 0.6 * _cycle(t, kind.bloom[0], 2.5, kind.bloom[1], 2.5) if kind.bloom[1] else np.zeros_like(green)
        flood = ((t > kind.flood) & (t < kind.end - 12)) * 0.92 if kind.flood else np.zeros_like(green)
        better = green + 0.5 * dry + flood > best[0] + 0.5 * best[1] + best[3]
        best = np.where(better, np.stack([green, dry, bloom, flood]), best)
    return best


def _rain(climate: Climate, seed: int, number: int) -> float:
    """Millimetres on one day (days since 1970-01-01)."""
    doy = _day_of_year(np.datetime64(number, "D"))
    first, last = climate.wet
    wet = any(first <= d <= last for d in (doy, doy - 365))
    draw = uniform(key(seed, "rain"), np.array([number]), np.array([0, 1]))
    chance = climate.rain * (1.0 if wet else 0.1)
    return float(-7 * np.log(1 - draw[1] * 0.999)) if draw[0] < chance else 0.0
