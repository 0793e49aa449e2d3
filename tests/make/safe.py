"""Tiny .SAFE products as ESA lays them out: a 120 x 120 px (10 m) corner of a tile, lossless JP2, metadata, manifest."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from unclouded.bands import L1C, L2A, S2

SIZE = 120  # pixels at 10 m; divisible by 6
LEFT, TOP = 600_000.0, 5_700_000.0
CRS = "EPSG:32631"


def ground(seed: int = 0) -> dict[str, np.ndarray]:
    """Reflectance * 10000 of every band at native resolution, 1..., some of it below 1000 (the trap of a wrapped uint16)."""
    rng = np.random.default_rng(seed)
    return {b.name: rng.integers(20, 6000, (SIZE * 10 // b.metres,) * 2).astype(np.int32) for b in S2}


def write_jp2(path: Path, pixels: np.ndarray, metres: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        rasterio.Env(GDAL_PAM_ENABLED=False),
        rasterio.open(  # noqa: TID251 - the gateway does not write JP2
            path, "w", driver="JP2OpenJPEG", height=pixels.shape[0], width=pixels.shape[1], count=1, dtype=pixels.dtype,
            crs=CRS, transform=Affine(metres, 0, LEFT, 0, -metres, TOP), QUALITY="100", REVERSIBLE="YES",
            BLOCKXSIZE="64", BLOCKYSIZE="64",
        ) as target,
    ):  # fmt: skip
        target.write(pixels, 1)


def make_safe(
    folder: Path, *, level: str = "L2A", baseline: str = "05.10", offset: int | None = -1000, seed: int = 0,
    day: str = "20220613", holes: bool = True, algorithm: str = "SHA3-256", offsets: dict[str, int] | None = None,
    processed: str = "20240101T000000", nodata_percentage: float = 1.0,
) -> Path:  # fmt: skip
    """A product of `ground(seed)`: DN = reflectance * 10000 - offset, 0 where there is a hole (top left 6 x 6 of 10 m)."""
    number = baseline.replace(".", "")
    safe = folder / f"S2A_MSI{level}_{day}T105031_N{number}_R051_T31UES_{processed}.SAFE"
    granule = f"GRANULE/{level}_T31UES_A012345_{day}T105600"
    shift = {b.name: (offsets or {}).get(b.name, offset or 0) for b in S2}
    for band in S2:
        if band.name not in (L1C if level == "L1C" else L2A):
            continue
        dn = (ground(seed)[band.name] - shift[band.name]).astype(np.uint16)
        if holes:
            n = max(60 // band.metres, 1)
            dn[:n, :n] = 0
        place = f"IMG_DATA/T31UES_{day}T105031_{band.name}.jp2"
        if level == "L2A":
            place = f"IMG_DATA/R{band.metres}m/T31UES_{day}T105031_{band.name}_{band.metres}m.jp2"
        write_jp2(safe / granule / place, dn, band.metres)
    if level == "L2A":
        write_jp2(safe / granule / f"IMG_DATA/R20m/T31UES_{day}T105031_SCL_20m.jp2", scl(), 20)
        coarse = np.full((20, 20), 7, np.uint16)  # B02 exists at 60 m, too, and must not be taken
        write_jp2(safe / granule / f"IMG_DATA/R60m/T31UES_{day}T105031_B02_60m.jp2", coarse, 60)
    (safe / granule / "MTD_TL.xml").write_text(
        "<?xml version='1.0'?><t><Geometric_Info><Tile_Angles><Mean_Sun_Angle><ZENITH_ANGLE unit='deg'>31.5</ZENITH_ANGLE>"
        "<AZIMUTH_ANGLE unit='deg'>150.25</AZIMUTH_ANGLE></Mean_Sun_Angle></Tile_Angles></Geometric_Info></t>"
    )
    tag, quantity = (
        ("RADIO_ADD_OFFSET", "QUANTIFICATION_VALUE") if level == "L1C" else ("BOA_ADD_OFFSET", "BOA_QUANTIFICATION_VALUE")
    )
    listed = "" if offset is None else "".join(f"<{tag} band_id='{b.number}'>{shift[b.name]}</{tag}>" for b in S2)
    sensed = f"{day[:4]}-{day[4:6]}-{day[6:]}T10:50:31.024Z"
    (safe / f"MTD_MSI{level}.xml").write_text(
        f"<?xml version='1.0' encoding='UTF-8'?><n1:P xmlns:n1='https://psd-14.sentinel2.eo.esa.int/PSD/x.xsd'><n1:General_Info>"
        f"<Product_Info><PRODUCT_START_TIME>{sensed}</PRODUCT_START_TIME><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>"
        f"<Datatake><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME><DATATAKE_SENSING_START>{sensed}</DATATAKE_SENSING_START>"
        "<SENSING_ORBIT_NUMBER>51</SENSING_ORBIT_NUMBER></Datatake></Product_Info><Product_Image_Characteristics>"
        "<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>"
        "</Special_Values><Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>"
        "<SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>"
        f"<{quantity} unit='none'>10000</{quantity}><L>{listed}</L></Product_Image_Characteristics></n1:General_Info>"
        "<n1:Geometric_Info><EXT_POS_LIST>51.0 3.0 51.0 4.0 50.0 4.0 50.0 3.0 51.0 3.0</EXT_POS_LIST></n1:Geometric_Info>"
        f"<n1:Q><Cloud_Coverage_Assessment>12.5</Cloud_Coverage_Assessment><NODATA_PIXEL_PERCENTAGE>{nodata_percentage}"
        "</NODATA_PIXEL_PERCENTAGE></n1:Q></n1:P>"
    )
    write_manifest(safe, algorithm)
    return safe


def scl() -> np.ndarray:
    """Sen2Cor classes at 20 m: vegetation, a cloud of 10 x 10."""
    classes = np.full((SIZE // 2,) * 2, 4, np.uint8)
    classes[10:20, 10:20] = 9
    return classes


def write_manifest(safe: Path, algorithm: str = "SHA3-256") -> None:
    name = {"SHA3-256": "sha3_256", "MD5": "md5"}[algorithm]
    items = "".join(
        f"<dataObject ID='d{n}'><byteStream><fileLocation href='./{file.relative_to(safe).as_posix()}'/>"
        f"<checksum checksumName='{algorithm}'>{hashlib.new(name, file.read_bytes()).hexdigest()}</checksum>"
        "</byteStream></dataObject>"
        for n, file in enumerate(sorted(p for p in safe.rglob("*") if p.is_file() and p.name != "manifest.safe"))
    )
    (safe / "manifest.safe").write_text(
        f"<?xml version='1.0'?><xfdu:XFDU xmlns:xfdu='urn:ccsds:schema:xfdu:1'><dataObjectSection>{items}"
        "</dataObjectSection></xfdu:XFDU>"
    )


def zipped(safe: Path) -> Path:
    """The product as a .SAFE.zip beside it."""
    target = safe.parent / f"{safe.name}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in safe.rglob("*") if p.is_file()):
            archive.write(file, f"{safe.name}/{file.relative_to(safe).as_posix()}")
    return target
