"""The one gateway to raster files: every raster is opened, read and created here, and nowhere else.

A name ending in .tif proves nothing: a VRT in disguise reads other files or the network, sidecars rewrite metadata, a small
file can claim a terabyte. So the driver is one explicit string chosen from the first bytes, the path must be a local file (or
a member of a local .zip), sidecars are switched off, and sizes are limited before a pixel is read.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, OutputFailed, RefusedForSafety
from unclouded.sample import TILE, Window
from unclouded.tiff import cut_off

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader, DatasetWriter

PathLike = str | os.PathLike[str]

MAX_SIDE = 20_000  # pixels
MAX_BANDS = 64
MAX_BYTES = 8 * 2**30  # decoded, per file
MAX_BLOCK_BYTES = 2**30  # what GDAL must hold to read one pixel
MAX_RATIO = 1_000  # decoded over stored, unless the blocks are constant
MAX_ZIP_ENTRIES = 20_000
MAX_ZIP_BYTES = 16 * 2**30
MAX_ZIP_RATIO = 200
MAX_OPEN = 128  # datasets kept open per thread
BESIDE = 192  # pixels to the left of the right edge of a window that the next one may look at: two halos and a cell
MAX_BESIDE = 256 * 2**20  # bytes of pixels kept for the next windows, per thread

LOCKS: Mapping[str, Any] = {
    "GDAL_PAM_ENABLED": False,  # .aux.xml would change nodata, scale, CRS
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # .msk, .ovr, world files beside the raster
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_MAX_RETRY": 0,
    "GDAL_NUM_THREADS": 1,
}
os.environ.setdefault("GDAL_CACHEMAX", "64")  # MiB of decoded rasters kept in a process; left alone, a twentieth of all memory
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_JP2 = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")


def zip_path(archive: PathLike, member: str) -> str:
    """The path under which `open_raster` finds a member of a local zip file: /vsizip/{archive}/member."""
    return f"/vsizip/{{{os.path.abspath(archive)}}}/{member}"


def open_raster(path: PathLike) -> DatasetReader:
    """Open a local GeoTIFF or JPEG 2000 file (or a zip member, see `zip_path`) for reading.

    Raises InputMissing, InputCorrupt (cannot be decoded), RefusedForSafety (other drivers in disguise, addresses, sizes
    beyond the limits).
    """
    from rasterio import open as rasterio_open  # noqa: TID251 - the gateway itself
    from rasterio._err import CPLE_BaseError
    from rasterio.env import Env
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    name, head, stored = _look(path)
    driver = _driver(path, head)
    try:
        with Env(**LOCKS), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio_open(name, driver=driver)
    except (RasterioError, CPLE_BaseError, UnicodeDecodeError) as error:
        raise damaged(path, error) from error
    try:
        _check_text(path, dataset)
        _check_size(path, dataset, stored)
    except BaseException:
        dataset.close()
        raise
    return dataset


def damaged(path: PathLike, why: object) -> InputCorrupt:
    """The error for a file that does not decode."""
    text = " ".join(str(why).split())
    return InputCorrupt(
        f"{Path(path).name} is damaged: it cannot be decoded. Nothing was written.",
        where=path, why=text[:300], do="copy or download the file again.",
    )  # fmt: skip


def read(dataset: DatasetReader, bands: Sequence[int], window: Window | None = None) -> NDArray[Any]:
    """Stored values (C, h, w) of the 1-based `bands` in a window inside the raster.

    Raises InputCorrupt where a block is damaged.
    """
    from rasterio._err import CPLE_BaseError
    from rasterio.env import Env
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as RasterioWindow

    at = None if window is None else RasterioWindow(window.col, window.row, window.width, window.height)
    try:
        with Env(**LOCKS):
            return dataset.read(list(bands), window=at)
    except (RasterioError, CPLE_BaseError) as error:
        raise damaged(dataset.name, error) from error


def read_along(dataset: DatasetReader, bands: Sequence[int], window: Window) -> NDArray[Any]:
    """`read` for windows that follow one another from left to right: of a raster from `opened`, what lies under the right
    border of a window is kept decoded, out to the end of the tiles, and the next, of the same rows or fewer, begins with it.
    """
    strips = _opened.strips.get(dataset)
    step = dataset.block_shapes[0][1]
    if strips is None or step >= dataset.width:
        return read(dataset, bands, window)
    right = window.col + window.width
    edge = min(-(-right // step) * step, dataset.width)  # all tiles to here are decoded anyway
    kept = strips.pop(tuple(bands), None)
    if kept is not None and kept.goes_before(window):
        top = window.row - kept.at.row
        there = kept.values[:, top : top + window.height, window.col - kept.at.col :]
        first = window.col + there.shape[-1]
        fresh = [read(dataset, bands, Window(window.row, first, window.height, edge - first))] if first < edge else []
        values = np.concatenate([there, *fresh], axis=-1)
    else:
        values = read(dataset, bands, Window(window.row, window.col, window.height, edge - window.col))
    edge = window.col + values.shape[-1]
    if edge < dataset.width:
        begin = max(window.col, right - BESIDE)
        _opened.keep(
            strips, tuple(bands), _Strip(window._replace(col=begin, width=edge - begin), values[..., begin - window.col :])
        )
    return values[..., : window.width]


@contextmanager
def reading_along() -> Iterator[None]:
    """At the end of what is done within, let go of what `read_along` keeps in this thread."""
    try:
        yield
    finally:
        for some in _opened.strips.values():
            some.clear()


def create_raster(
    path: PathLike,
    *,
    height: int,
    width: int,
    count: int,
    dtype: str,
    grid: GeoBox | None,
    nodata: float | None = None,
    descriptions: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    compress: str | None = None,
    level: int = 6,
    block: int = TILE,
) -> DatasetWriter:
    """Create a tiled GeoTIFF for writing, to be closed by the caller (`with`). `level`: of DEFLATE, 1 to 9.

    Raises OutputFailed where it cannot be created.
    """
    from rasterio import open as rasterio_open  # noqa: TID251 - the gateway itself
    from rasterio._err import CPLE_BaseError
    from rasterio.env import Env
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    place = {} if grid is None else {"crs": _crs_text(grid), "transform": grid.affine}
    squeeze: dict[str, Any] = {} if compress is None else {"compress": compress}
    if compress not in (None, "packbits"):
        squeeze["predictor"] = 3 if np.dtype(dtype).kind == "f" else 2
    if compress == "deflate":
        squeeze["zlevel"] = level
    try:
        with Env(**LOCKS), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            target = rasterio_open(
                Path(path), "w", driver="GTiff", height=height, width=width, count=count, dtype=dtype, nodata=nodata,
                tiled=True, blockxsize=block, blockysize=block, bigtiff="IF_SAFER", interleave="band", **place, **squeeze,
            )  # fmt: skip
    except (RasterioError, CPLE_BaseError) as error:
        raise OutputFailed(f"{Path(path).name} cannot be created.", where=path, why=str(error)) from error
    if descriptions:
        target.descriptions = tuple(descriptions)
    if tags:
        target.update_tags(**tags)
    return target


def _crs_text(grid: GeoBox) -> str | None:
    return None if grid.crs is None else str(grid.crs)


def grid_of(dataset: DatasetReader) -> GeoBox | None:
    """The pixel grid of a raster; None if it has no CRS. Raises InputUnsupported if it is rotated or not north-up."""
    from odc.geo.geobox import GeoBox

    if dataset.crs is None:
        return None
    a = dataset.transform
    if a.b or a.d or a.a <= 0 or a.e >= 0 or not all(map(math.isfinite, a[:6])):
        raise InputUnsupported(
            f"{Path(dataset.name).name} is rotated or not north-up.", where=dataset.name,
            why=f"its transform is {tuple(a[:6])}; expected positive width, negative height, no rotation.",
            do="regrid it first: gdalwarp -t_srs <CRS> in.tif out.tif",
        )  # fmt: skip
    code = dataset.crs.to_epsg(confidence_threshold=100)
    return GeoBox(dataset.shape, a, f"EPSG:{code}" if code else dataset.crs.to_wkt())


def overlap(one: GeoBox, other: GeoBox) -> bool:
    """Whether the boxes of two grids meet."""
    assert one.crs is not None
    a, b = one.boundingbox, other.boundingbox.to_crs(one.crs)
    return max(a.left, b.left) < min(a.right, b.right) and max(a.bottom, b.bottom) < min(a.top, b.top)


# -- what a path is ------------------------------------------------------------------------------------------------


def _look(path: PathLike) -> tuple[str | Path, bytes, int]:
    """The name to hand to GDAL, the first bytes, the stored size."""
    text = os.fspath(path)
    if text.startswith("/vsizip/{"):
        return text, *_look_in_zip(text)
    if "://" in text or text.startswith("/vsi") or "\x00" in text or "\n" in text:
        raise RefusedForSafety(
            f"'{text[:80]}' is not a local file.", why="addresses and virtual paths are never opened.",
            do="download the file first and give its path.",
        )  # fmt: skip
    file = Path(text).absolute()
    if not file.is_file():
        raise InputMissing(f"There is no file {file.name}.", where=file)
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(512)
        if head.startswith(_TIFF) and (why := cut_off(stream, size)):
            raise damaged(file, why)
    return file, head, size


def _look_in_zip(text: str) -> tuple[bytes, int]:
    archive, _, member = text.removeprefix("/vsizip/{").partition("}/")
    if ".." in Path(member).parts or "{" in member or not archive.startswith("/") or archive.startswith("/vsi"):
        raise RefusedForSafety(f"'{text[:80]}' is not a member of a local zip file.")
    with open_zip(archive) as opened:
        try:
            info = opened.getinfo(member)
            with opened.open(info) as stream:
                return stream.read(512), info.compress_size
        except KeyError:
            raise InputMissing(f"{Path(archive).name} has no member {member}.", where=archive) from None
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise damaged(archive, error) from error


def open_zip(archive: PathLike) -> zipfile.ZipFile:
    """Open a zip file after checking its directory. Raises InputMissing, InputCorrupt, RefusedForSafety."""
    if not Path(archive).is_file():
        raise InputMissing(f"There is no file {Path(archive).name}.", where=archive)
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise damaged(archive, error) from error
    if trouble := _zip_trouble(opened.infolist()):
        opened.close()
        raise RefusedForSafety(f"{Path(archive).name} was refused.", where=archive, why=trouble)
    return opened


def _zip_trouble(entries: Sequence[zipfile.ZipInfo]) -> str:
    if len(entries) > MAX_ZIP_ENTRIES:
        return f"it has {len(entries)} entries; at most {MAX_ZIP_ENTRIES} are read."
    if sum(e.file_size for e in entries) > MAX_ZIP_BYTES:
        return f"it unpacks to more than {MAX_ZIP_BYTES >> 30} GiB."
    for e in entries:
        if e.filename.startswith("/") or ".." in Path(e.filename).parts or "\\" in e.filename:
            return f"entry '{e.filename[:80]}' points outside the archive."
        if e.flag_bits & 1:
            return f"entry '{e.filename[:80]}' is encrypted."
        if e.file_size > 2**20 and e.file_size > MAX_ZIP_RATIO * max(e.compress_size, 1):
            return f"entry '{e.filename[:80]}' expands more than {MAX_ZIP_RATIO}-fold."
    names = [e.filename for e in entries]
    return "it holds two entries of one name." if len(set(names)) < len(names) else ""


def _driver(path: PathLike, head: bytes) -> str:
    if head.startswith(_TIFF):
        return "GTiff"
    if head.startswith(_JP2):
        return "JP2OpenJPEG"
    name = Path(path).name
    if not head.strip(b"\x00"):
        raise InputCorrupt(
            f"{name} is empty. Nothing was written.", where=path, why=f"its first {len(head)} bytes are zero."
            if head else "it has no bytes.", do="copy or download the file again.",
        )  # fmt: skip
    kind = "a VRT" if b"<VRTDataset" in head else f"something else (it begins with {head[:8]!r})"
    raise RefusedForSafety(
        f"{name} is not a GeoTIFF or JPEG 2000 file but {kind}.", where=path,
        do="convert it first: gdal_translate -of GTiff in out.tif",
    )  # fmt: skip


def _check_text(path: PathLike, dataset: DatasetReader) -> None:
    """Names and tags are decoded when they are asked for: here once, so that later nobody finds them undecodable."""
    try:
        _ = dataset.descriptions, dataset.tags(), [dataset.tags(band) for band in dataset.indexes]
    except UnicodeDecodeError as error:
        raise damaged(path, error) from error


def _check_size(path: PathLike, dataset: DatasetReader, stored: int) -> None:
    height, width, bands = dataset.height, dataset.width, dataset.count
    size = np.dtype(dataset.dtypes[0]).itemsize
    rows, cols = dataset.block_shapes[0]
    together = bands if dataset.interleaving is not None and dataset.interleaving.value == "PIXEL" else 1
    decoded = height * width * bands * size
    trouble = ""
    if max(height, width) > MAX_SIDE:
        trouble = f"it has {height} x {width} pixels; at most {MAX_SIDE} a side are read."
    elif bands > MAX_BANDS:
        trouble = f"it has {bands} bands; at most {MAX_BANDS} are read."
    elif decoded > MAX_BYTES:
        trouble = f"it decodes to {decoded / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} GiB are read."
    elif min(rows, height) * min(cols, width) * size * together > MAX_BLOCK_BYTES:
        trouble = f"its blocks of {rows} x {cols} pixels are too large; retile it."
    elif decoded > MAX_RATIO * max(stored, 1) and decoded > 2**20 and not _constant(dataset):
        trouble = f"it expands more than {MAX_RATIO}-fold."
    if trouble:
        raise RefusedForSafety(f"{Path(path).name} was refused.", where=path, why=trouble, do="cut it into smaller files.")


def _constant(dataset: DatasetReader) -> bool:
    """Whether the first, middle and last blocks of a raster hold one value each: what honestly compresses that far."""
    rows, cols = (min(a, b, 1024) for a, b in zip(dataset.block_shapes[0], dataset.shape, strict=True))
    for part in (0.0, 0.5, 1.0):
        at = Window(int((dataset.height - rows) * part), int((dataset.width - cols) * part), rows, cols)
        values = read(dataset, [1], at)
        if np.any(values != values.flat[0]) and not np.isnan(values).all():
            return False
    return True


# -- open files ----------------------------------------------------------------------------------------------------


class _Strip(NamedTuple):
    """Decoded pixels of a raster."""

    at: Window
    values: NDArray[Any]  # (C, h, w)

    def goes_before(self, window: Window) -> bool:
        """Whether it has all rows of a window, which begins in it."""
        rows = self.at.row <= window.row and window.row + window.height <= self.at.row + self.at.height
        return rows and self.at.col <= window.col < self.at.col + self.at.width


class _Opened(threading.local):
    """Datasets of this thread and process, the least recently used closed first, and what of them is kept decoded."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.datasets: OrderedDict[str, DatasetReader] = OrderedDict()
        self.strips: dict[DatasetReader, dict[tuple[int, ...], _Strip]] = {}

    def keep(self, strips: dict[tuple[int, ...], _Strip], bands: tuple[int, ...], strip: _Strip) -> None:
        """A copy of a strip, unless too much is kept already."""
        taken = sum(one.values.nbytes for some in self.strips.values() for one in some.values())
        if taken + strip.values.nbytes <= MAX_BESIDE:
            strips[bands] = _Strip(strip.at, strip.values.copy())

    def close_oldest(self) -> None:
        """Close the dataset that was not used for longest."""
        dataset = self.datasets.popitem(last=False)[1]
        del self.strips[dataset]
        dataset.close()


_opened = _Opened()


def opened(path: PathLike) -> DatasetReader:
    """The raster, kept open for the next window; up to MAX_OPEN per thread. A file that changed is opened anew."""
    if _opened.process != os.getpid():  # a forked child shares file offsets with its parent: start anew
        _opened.__init__()  # type: ignore[misc]
    text = os.fspath(path)
    file = text.removeprefix("/vsizip/{").partition("}/")[0] if text.startswith("/vsizip/{") else text
    try:
        state = os.stat(file)
    except OSError:
        raise InputMissing(f"{Path(file).name} is gone.", where=file) from None
    key = f"{text}|{state.st_ino}|{state.st_size}|{state.st_mtime_ns}"
    dataset = _opened.datasets.pop(key, None)
    if dataset is None:
        dataset = open_raster(path)
        while len(_opened.datasets) >= MAX_OPEN:
            _opened.close_oldest()
        _opened.strips[dataset] = {}
    _opened.datasets[key] = dataset
    return dataset
