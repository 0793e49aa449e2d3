"""Names and colours of the codes a product carries: one table for the rasters, the pictures and the report."""

from __future__ import annotations

from unclouded.sample import Cover, Source

SOURCE_COLOURS: dict[Source, tuple[int, int, int]] = {
    Source.NODATA: (0, 0, 0),
    Source.OBSERVED: (222, 224, 220),
    Source.DATES: (49, 130, 189),
    Source.DATES_SAR: (38, 166, 154),
    Source.SAR: (239, 150, 50),
    Source.PRIOR: (205, 92, 150),
    Source.REFUSED: (140, 22, 34),
    Source.SAME_IMAGE: (140, 107, 190),
}
SOURCE_NAMES: dict[Source, str] = {
    Source.NODATA: "no data",
    Source.OBSERVED: "observed",
    Source.DATES: "other dates",
    Source.DATES_SAR: "other dates + SAR",
    Source.SAR: "SAR-led",
    Source.PRIOR: "prior only",
    Source.REFUSED: "refused, left hidden",
    Source.SAME_IMAGE: "same image only",
}
COVER_COLOURS: dict[Cover, tuple[int, int, int]] = {
    Cover.NODATA: (0, 0, 0),
    Cover.CLEAR: (108, 153, 96),
    Cover.THIN: (184, 202, 219),
    Cover.THICK: (245, 245, 245),
    Cover.SHADOW: (70, 70, 90),
    Cover.SNOW: (120, 220, 240),
    Cover.OTHER: (200, 60, 60),
}
COVER_NAMES: dict[Cover, str] = {
    Cover.NODATA: "no data",
    Cover.CLEAR: "clear",
    Cover.THIN: "thin cloud",
    Cover.THICK: "thick cloud",
    Cover.SHADOW: "cloud shadow",
    Cover.SNOW: "snow",
    Cover.OTHER: "other defect",
}
