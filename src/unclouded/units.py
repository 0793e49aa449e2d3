"""Counts to reflectance and back, power to decibel and back. Validity first, arithmetic second.

A product stores digital numbers (DN). reflectance = (DN + offset) / quantification, where offset is -1000 from processing
baseline 04.00 on (ESA S2 Product Specification, RADIO_ADD_OFFSET / BOA_ADD_OFFSET). DN 0 is "no data" *before* the offset.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

DB_FLOOR = -60.0  # below any calibrated backscatter; power at or under zero is invalid, never this value


def to_reflectance(
    counts: NDArray[np.generic],
    *,
    quantification: float = 10_000.0,
    offset: ArrayLike = 0.0,
    nodata: float | None = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """DN (..., C, H, W) -> reflectance float32 (1.0 = 100 %, negative is legal) and validity (same shape).

    `offset`: one number, or one per band (C,). A value is valid when it is finite and not `nodata`.
    Invalid reflectance is 0.0, so that a forgotten mask cannot spread NaN; the mask decides, never the value.
    """
    valid = is_valid(counts, nodata)
    shift = np.asarray(offset, np.float32)
    if shift.ndim:
        shift = shift[:, None, None]
    whole = bool(valid.all())
    out = (counts if whole else np.where(valid, counts, 0)).astype(np.float32)  # widen before adding: uint16 wraps
    out += shift
    out /= np.float32(quantification)
    if not whole:
        out[~valid] = 0
    return out, valid


def is_valid(counts: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_]:
    """Which counts are measured: finite and not `nodata`; same shape."""
    valid = np.isfinite(counts) if counts.dtype.kind == "f" else np.ones(counts.shape, bool)
    if nodata is not None and np.isfinite(nodata):
        valid &= counts != nodata
    return valid


def to_counts(
    reflectance: NDArray[np.floating],
    *,
    dtype: np.dtype | type,
    quantification: float = 10_000.0,
    offset: ArrayLike = 0.0,
    nodata: float | None = 0.0,
) -> NDArray[np.generic]:
    """Reflectance (..., C, H, W) -> DN of `dtype`: rounded, clipped into the type's range, never landing on `nodata` or 65535.

    The inverse of `to_reflectance` for every valid DN. Raises ValueError on a value that is not finite.
    """
    kind = np.dtype(dtype)
    shift = np.asarray(offset, np.float64)
    if shift.ndim:
        shift = shift[:, None, None]
    counts = np.asarray(reflectance, np.float64) * quantification - shift
    if not np.isfinite(counts).all():
        raise ValueError("reflectance has values that are not finite; mask them before writing")
    if kind.kind == "f":
        return counts.astype(kind)
    info = np.iinfo(kind)
    low, high = int(info.min), int(info.max)
    if nodata is not None and nodata == low:
        low += 1
    if kind == np.uint16:
        high = 65_534  # 65535 means saturated in Sentinel-2 products
    counts = np.clip(np.rint(counts), low, high)
    if nodata is not None and low < nodata <= high:  # nodata inside the range (signed types): step off it
        counts = np.where(counts == nodata, nodata + 1 if nodata < high else nodata - 1, counts)
    return counts.astype(kind)


def power_to_db(power: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Linear backscatter -> dB float32 and validity. Zero, negative and non-finite power is invalid, never a dark surface."""
    valid = np.isfinite(power) & (power > 0)
    db = 10 * np.log10(np.where(valid, power, 1.0))
    return np.where(valid, db, 0).astype(np.float32), valid


def db_to_power(db: NDArray[np.floating]) -> NDArray[np.float32]:
    """dB -> linear power, float32."""
    return np.power(10.0, np.asarray(db, np.float64) / 10).astype(np.float32)


def gamma0_to_sigma0(db: NDArray[np.floating], incidence_degrees: ArrayLike) -> NDArray[np.float32]:
    """gamma0 dB -> sigma0 dB: sigma0 = gamma0 + 10 log10 cos(incidence). 0.6 dB at 29 degrees, 1.6 dB at 46 degrees."""
    return (np.asarray(db) + 10 * np.log10(np.cos(np.radians(np.asarray(incidence_degrees, np.float64))))).astype(np.float32)


def sigma0_to_gamma0(db: NDArray[np.floating], incidence_degrees: ArrayLike) -> NDArray[np.float32]:
    """sigma0 dB -> gamma0 dB, the inverse of `gamma0_to_sigma0`."""
    return (np.asarray(db) - 10 * np.log10(np.cos(np.radians(np.asarray(incidence_degrees, np.float64))))).astype(np.float32)
