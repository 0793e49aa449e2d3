"""Presets: how each paper or code base turns images into numbers, by name. Every convention is a field, and all fields make
the digest, so that two results with one digest were computed alike.

Where a paper and its code disagree both have a row or a preset, and `notes` says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, NamedTuple

from unclouded.errors import UsageError
from unclouded.metrics.areas import FIFTHS, TENTHS
from unclouded.metrics.average import POOL_ALL, POOL_SERIES
from unclouded.metrics.calibration import Coverage, Spread, Uce
from unclouded.metrics.pair import Metric
from unclouded.metrics.pixel import R2, BandErrors, BandRmse, Bias, Correlation, Mae, Mse, NormalisedRmse, Psnr, Rmse
from unclouded.metrics.spectral import Ergas, NdviError, Sam, SamImage, SamOfMeanCosine
from unclouded.metrics.structural import WINDOWS, Ssim, Uqi

RGB = ("B04", "B03", "B02")
UNMEASURED = "0 to models and for refused pixels; in no area but all"  # input pixels without a value, in every preset
Against = Literal["target", "input", "adaptive"]


class Crop(NamedTuple):
    """The part of every patch that is shown to the model and scored."""

    where: Literal["centre", "top-left"]
    side: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of a result: a metric, where it looks, what it compares with, and when sums are added.

    `pooled`: 1 is the mean of a value per image, n of a value per batch of n images, POOL_SERIES of a value per series (its
    frames pooled), POOL_ALL one value of all pixels.
    `bands`: of the bands that the preset scores, None all. `clipped` False: before the preset's clipping.
    """

    name: str
    metric: Metric
    area: str = "all"
    against: Against = "target"
    pooled: int = 1
    without: tuple[str, ...] = ()  # bands left out
    clipped: bool = True
    unit: str = ""
    better: Literal["lower", "higher", "neither"] = "lower"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A protocol's arithmetic. Values are reflectance, cut to `clip`, times `scale`, before any metric sees them.

    `mask`: the detector of masks/ whose classes make the areas; `auto` takes the sample's own cloud, else `meraner2020` (for
    bands that it was not made for, the first of `masks.detect.AUTO` that fits). `mask_on`: whether the detector sees the patch
    or only the crop. `refused`: pixels a model leaves open are skipped, or take the cloudy input's value, as a product would
    show them (0 where it has none). `preview`: both images are stretched to 8 bit, each by its own range, and divided by 255.
    `neighbours`: the k of precision and recall of the set (Ebel 2020, App. B), itself counted.
    """

    name: str
    source: str
    rows: tuple[Row, ...]
    bands: tuple[str, ...] | None = None
    clip: tuple[float, float] | None = (0.0, 1.0)
    scale: float = 1.0
    preview: bool = False
    crop: Crop | None = None
    mask: str = "auto"
    mask_on: Literal["patch", "crop"] = "patch"
    refused: Literal["skip", "input"] = "input"
    cover_edges: tuple[float, ...] = TENTHS
    neighbours: int = 10
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of every convention: 16 hex digits. Names, sources and notes of the preset itself do not count."""
        told = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in ("name", "source", "notes")}
        told["unmeasured"] = UNMEASURED
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def row(self, name: str) -> Row:
        """A row by name. Raises UsageError."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise UsageError(
                f"The preset '{self.name}' has no row '{name}'.", why=f"its rows are: {', '.join(r.name for r in self.rows)}."
            )
        return found


def _plain(value: Any) -> Any:
    """Any convention as JSON; an SSIM window by what it is, not by its name."""
    if isinstance(value, Ssim):
        return {"Ssim": {f.name: _plain(getattr(value, f.name)) for f in fields(value)}, "is": _plain(WINDOWS[value.window])}
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: {f.name: _plain(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return repr(value) if isinstance(value, float) else value


MERANER = Preset(
    name="meraner2020",
    source="Meraner et al. 2020, section 4 and Table 1",
    rows=(
        Row(name="MAE target", metric=Mae()),
        Row(name="MAE reprod", metric=Mae(), area="clear", against="input"),
        Row(name="MAE recon", metric=Mae(), area="hidden"),
        Row(name="RMSE", metric=Rmse()),
        Row(name="PSNR", metric=Psnr(), unit="dB", better="higher"),
        Row(name="SAM target", metric=Sam("degrees", "nan"), unit="°"),
        Row(name="SAM reprod", metric=Sam("degrees", "nan"), area="clear", against="input", unit="°"),
        Row(name="SAM recon", metric=Sam("degrees", "nan"), area="hidden", unit="°"),
        Row(name="SSIM", metric=Ssim("valid"), better="higher"),
        Row(name="nRMSE by band", metric=NormalisedRmse()),
    ),
    mask="meraner2020",
    refused="skip",
    notes=(
        "reprod compares with the cloudy input where it is clear, recon with the target under cloud and shadow",
        "an image without any clear (or hidden) pixel has no reproduction (reconstruction) error and leaves that mean",
    ),
)

MERANER_CODE = Preset(
    name="meraner2020_code",
    source="DSen2-CR, Code/tools/image_metrics.py (the published code)",
    rows=(
        Row(name="carl, adaptive part", metric=Mae(), against="adaptive", pooled=16),
        Row(name="mean_absolute_error", metric=Mae(), pooled=16),
        Row(name="mean_squared_error", metric=Mse(), pooled=16),
        Row(name="root_mean_squared_error", metric=Rmse(), pooled=16),
        Row(name="bandwise_root_mean_squared_error", metric=BandRmse()),
        Row(name="ssim", metric=Ssim("valid", peak=5.0), better="higher"),
        Row(name="mean_sam", metric=Sam("radians", "nan"), pooled=16, unit="rad"),
        Row(name="mean_sam_covered", metric=Sam("radians", "nan"), area="hidden", pooled=16, unit="rad"),
        Row(name="mean_sam_clear", metric=Sam("radians", "nan"), area="clear", against="input", pooled=16, unit="rad"),
        Row(name="psnr", metric=Psnr(peak=5.0), pooled=16, unit="dB", better="higher"),
        Row(name="mean_absolute_error_clear", metric=Mae(), area="clear", against="input", pooled=16),
        Row(name="mean_absolute_error_covered", metric=Mae(), area="hidden", pooled=16),
    ),
    scale=5.0,
    crop=Crop("top-left", 128),
    mask="meraner2020",
    mask_on="crop",
    refused="skip",
    notes=(
        "CARL (eq. 3, lambda 1) is the adaptive part plus mean_absolute_error",
        "values are counts / 2000; sums run over batches of 16; a batch without hidden (clear) pixels has no number",
        "angles are radians where the paper's table says degrees",
    ),
)

GLFCR = Preset(
    name="glfcr2022",
    source="Xu et al. 2022, section 5.1 and Table 1; SSIM and PSNR as GLF-CR's code has them",
    rows=(
        Row(name="PSNR", metric=Psnr(equal=100.0), unit="dB", better="higher"),
        Row(name="SSIM", metric=Ssim("zero_off_centre"), better="higher"),
        Row(name="SAM", metric=Sam("degrees", "skip"), unit="°"),
        Row(name="MAE", metric=Mae()),
    ),
    crop=Crop("centre", 128),
    mask="meraner2020",
    refused="skip",
    cover_edges=FIFTHS,
    notes=("the SSIM window has its centre at 5.5 instead of 5", "SAM and MAE are not in the published code"),
)

_CRTS_ROWS = (
    Row(name="NRMSE (all)", metric=Rmse()),
    Row(name="NRMSE (cloudy)", metric=Rmse(), area="covered_in_any"),
    Row(name="NRMSE (clear)", metric=Rmse(), area="seen_in_all"),
    Row(name="PSNR", metric=Psnr(), unit="dB", better="higher"),
    Row(name="SSIM", metric=Ssim("zero"), better="higher"),
    Row(name="SAM", metric=Sam("radians", "nan"), unit="rad"),
)
CRTS = Preset(
    name="sen12mscrts2022",
    source="Ebel et al. 2022; as SEN12MS-CR-TS's test.py computes",
    rows=(
        *_CRTS_ROWS,
        Row(name="MAE (all)", metric=Mae()),
        Row(name="MAE (cloudy)", metric=Mae(), area="covered_in_any"),
        Row(name="MAE (clear)", metric=Mae(), area="seen_in_all"),
        Row(name="NRMSE (cloudy), as printed", metric=Rmse(), area="covered_in_all"),
        Row(name="NRMSE (clear), as printed", metric=Rmse(), area="seen_in_any"),
    ),
    mask="s2cloudless",
    refused="skip",
    notes=(
        "the code calls a pixel cloudy that any input hides; the paper one that all inputs hide: both have rows",
        "the paper writes C = 3 and one angle per image; the code scores 13 bands and the mean angle over pixels",
    ),
)
CRTS_PAPER = Preset(
    name="sen12mscrts2022_paper",
    source="Ebel et al. 2022, section IV-A as printed",
    rows=(
        Row(name="NRMSE (all)", metric=Rmse()),
        Row(name="NRMSE (cloudy)", metric=Rmse(), area="covered_in_all"),
        Row(name="NRMSE (clear)", metric=Rmse(), area="seen_in_any"),
        Row(name="PSNR", metric=Psnr(), unit="dB", better="higher"),
        Row(name="SSIM", metric=Ssim("valid"), better="higher"),
        Row(name="SAM", metric=SamImage("radians"), unit="rad"),
        Row(name="SAM (degrees)", metric=SamImage("degrees"), unit="°"),
    ),
    bands=RGB,
    mask="s2cloudless",
    refused="skip",
    notes=("Table VI prints its angles in degrees, the other tables in radians",),
)

EBEL = Preset(
    name="ebel2020",
    source="Ebel et al. 2020, section III-B",
    rows=(
        Row(name="MAE", metric=Mae()),
        Row(name="RMSE", metric=Rmse()),
        Row(name="PSNR", metric=Psnr(), unit="dB", better="higher"),
        Row(name="SSIM", metric=Ssim("valid"), better="higher"),
        Row(name="SAM", metric=SamImage("degrees"), unit="°"),
    ),
    bands=RGB,
    mask="s2cloudless",
    refused="skip",
    notes=(
        "the printed SAM is one angle per whole image; its unit is not stated",
        "improved precision, recall and F1 (k = 10) need a feature network: --features",
    ),
)

DARBAGHSHAHI = Preset(
    name="darbaghshahi2021",
    source="Darbaghshahi et al. 2021, section 3.2 and Table 4",
    rows=(
        Row(name="PSNR", metric=Psnr(), unit="dB", better="higher"),
        Row(name="SSIM", metric=Ssim("valid"), better="higher"),
        Row(name="PSNR cloudy", metric=Psnr(), area="hidden", unit="dB", better="higher"),
        Row(name="PSNR non-cloudy", metric=Psnr(), area="clear", unit="dB", better="higher"),
    ),
    bands=RGB,
    refused="skip",
    notes=("the images are 8-bit RGB previews of SEN1-2 with drawn clouds; the peak is that of the value range",),
)

UNCRTAINTS = Preset(
    name="uncrtaints2023",
    source="UnCRtainTS (Ebel et al. 2023), src/learning/metrics.py and train_reconstruct.py (the published code)",
    rows=(
        Row(name="RMSE", metric=Rmse()),
        Row(name="MAE", metric=Mae()),
        Row(name="PSNR", metric=Psnr(), unit="dB", better="higher"),
        Row(name="SAM", metric=Sam("degrees", "nan"), unit="°"),
        Row(name="SSIM", metric=Ssim("zero"), better="higher"),
        Row(name="UCE", metric=Uce(), pooled=POOL_ALL),
        Row(name="AUCE", metric=Uce(plain=True), pooled=POOL_ALL),
    ),
    mask="s2cloudless",
    refused="skip",
    notes=(
        "an image with one pixel of no length has no SAM and leaves the mean",
        "UCE and AUCE take one point per image: the signed mean error, in which errors cancel",
    ),
)

_FRAMES: dict[str, Any] = {"pooled": POOL_SERIES}
UTILISE = Preset(
    name="utilise2023",
    source="U-TILISE (Stucker et al. 2023), lib/metrics.py (the published code)",
    rows=(
        Row(name="MAE", metric=Mae(), **_FRAMES),
        Row(name="MSE", metric=Mse(), **_FRAMES),
        Row(name="RMSE", metric=Rmse(), **_FRAMES),
        Row(name="PSNR", metric=Psnr(), unit="dB", better="higher", **_FRAMES),
        Row(name="SSIM", metric=Ssim("zero_5", floor=0.0), better="higher", **_FRAMES),
        Row(name="SAM", metric=Sam("radians", "skip"), unit="rad", **_FRAMES),
        *(
            row
            for part, area in (("occluded", "hidden"), ("observed", "clear"))
            for row in (
                Row(name=f"MAE {part}", metric=Mae(), area=area, **_FRAMES),
                Row(name=f"MSE {part}", metric=Mse(), area=area, **_FRAMES),
                Row(name=f"RMSE {part}", metric=Rmse(), area=area, **_FRAMES),
                Row(name=f"PSNR {part}", metric=Psnr(), area=area, unit="dB", better="higher", **_FRAMES),
                Row(name=f"SAM {part}", metric=Sam("radians", "skip"), area=area, unit="rad", **_FRAMES),
            )
        ),
    ),
    refused="skip",
    notes=(
        "all frames of a series are pooled before a value is taken, then series are averaged (a batch of one series); an "
        "image that is alone of its series is a series of one frame",
        "similarities below 0 count as 0",
    ),
)

DECLOUD = Preset(
    name="decloud",
    source="decloud (CNES)",
    rows=(
        Row(name="PSNR", metric=Psnr(), pooled=POOL_ALL, unit="dB", better="higher"),
        Row(name="SSIM", metric=Ssim("valid"), better="higher"),
        Row(name="SAM", metric=SamOfMeanCosine("degrees"), pooled=POOL_ALL, unit="°"),
    ),
    refused="skip",
)

PREVIEW = Preset(
    name="sen2mtc_preview",
    source="CTGAN, PMAA, DiffCR on Sen2_MTC: 8-bit RGB previews, each image stretched by its own range",
    rows=(
        Row(name="PSNR", metric=Psnr(), unit="dB", better="higher"),
        Row(name="SSIM", metric=Ssim("uniform_7", sample=True), better="higher"),
    ),
    bands=RGB,
    preview=True,
    refused="skip",
    notes=("not comparable with any score of reflectance: every image is divided by its own brightest pixel",),
)


def _areas(metric: Metric, name: str, areas: tuple[str, ...], **same: Any) -> Iterator[Row]:
    for area in areas:
        yield Row(name=name if area == "all" else f"{name} {area}", metric=metric, area=area, **same)


_PARTS = ("all", "hidden", "clear", "shadow")
UNCLOUDED = Preset(
    name="unclouded-v1",
    source="this project",
    rows=(
        *_areas(Psnr(equal=100.0), "PSNR", _PARTS, unit="dB", better="higher"),
        *_areas(Ssim("valid"), "SSIM", ("all", "hidden"), better="higher"),
        *_areas(Sam("degrees", "skip"), "SAM", _PARTS, unit="°"),
        *_areas(Mae(), "MAE", _PARTS),
        *_areas(Rmse(), "RMSE", _PARTS),
        *_areas(Bias(), "bias", ("all", "hidden"), better="neither"),
        *_areas(NdviError(), "NDVI error", ("all", "hidden")),
        *_areas(Correlation(), "correlation", ("all",), without=("B10",), better="higher"),
        *_areas(R2(), "R2", ("all",), without=("B10",), better="higher"),
        *_areas(Ergas(), "ERGAS", ("all",), without=("B10",)),
        Row(name="PSNR pooled", metric=Psnr(equal=100.0), pooled=POOL_ALL, unit="dB", better="higher"),
        Row(name="PSNR pooled hidden", metric=Psnr(equal=100.0), area="hidden", pooled=POOL_ALL, unit="dB", better="higher"),
        Row(name="RMSE pooled", metric=Rmse(), pooled=POOL_ALL),
        Row(name="RMSE pooled hidden", metric=Rmse(), area="hidden", pooled=POOL_ALL),
        Row(name="PSNR unclipped", metric=Psnr(equal=100.0), clipped=False, unit="dB", better="higher"),
        Row(name="MAE unclipped", metric=Mae(), clipped=False),
        Row(name="RMSE unclipped", metric=Rmse(), clipped=False),
        Row(name="PSNR without B10", metric=Psnr(equal=100.0), without=("B10",), unit="dB", better="higher"),
        Row(name="SSIM without B10", metric=Ssim("valid"), without=("B10",), better="higher"),
        Row(name="SAM without B10", metric=Sam("degrees", "skip"), without=("B10",), unit="°"),
        Row(name="MAE without B10", metric=Mae(), without=("B10",)),
        Row(name="RMSE without B10", metric=Rmse(), without=("B10",)),
        *_areas(BandErrors(), "bands", ("all", "hidden"), pooled=POOL_ALL),
        Row(name="nRMSE by band", metric=NormalisedRmse()),
        *_areas(Coverage(0.5), "coverage 50 %", ("all", "hidden"), pooled=POOL_ALL, better="neither"),
        *_areas(Coverage(0.9), "coverage 90 %", ("all", "hidden"), pooled=POOL_ALL, better="neither"),
        *_areas(Coverage(0.95), "coverage 95 %", ("all", "hidden"), pooled=POOL_ALL, better="neither"),
        *_areas(Spread(), "ENCE", ("all", "hidden"), pooled=POOL_ALL),
    ),
    notes=(
        "means over images; pixels without a measured target do not count; refused pixels take the value of the input",
        "PSNR of equal images is 100 dB, so that means stay finite",
    ),
)

EXTENDED = Preset(
    name="extended",
    source="metrics that few papers report, for a closer look",
    rows=(
        Row(name="UQI", metric=Uqi(), better="higher"),
        Row(name="SAM per image", metric=SamImage("degrees"), unit="°"),
        Row(name="SAM of mean cosine", metric=SamOfMeanCosine("degrees"), unit="°"),
        Row(name="bandwise RMSE", metric=BandRmse()),
        Row(name="nRMSE by mean", metric=NormalisedRmse("mean")),
    ),
)

PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        UNCLOUDED, MERANER, MERANER_CODE, GLFCR, CRTS, CRTS_PAPER, EBEL, DARBAGHSHAHI, UNCRTAINTS, UTILISE, DECLOUD, PREVIEW,
        EXTENDED,
    )
}  # fmt: skip


def preset(name: str) -> Preset:
    """A preset by name. Raises UsageError with the names there are."""
    if name not in PRESETS:
        raise UsageError(f"There is no preset '{name}'.", why=f"presets are: {', '.join(PRESETS)}.")
    return PRESETS[name]
