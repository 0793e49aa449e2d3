"""Room 2: cloud and shadow detectors, Sample -> Detection. The table of detectors is `MASKS`; a scene goes through `detect`."""

from __future__ import annotations

from unclouded.masks import delivered, omnicloudmask, s2cloudless, sixband, threshold
from unclouded.masks.detection import Detection, Detector

MASKS: dict[str, Detector] = {
    "file": Detector(
        delivered.given, adapt=delivered.given_of, shadows=True, delivered=True,
        about="a mask file: our classes, or 0 clear and 1 hidden",
    ),
    "scl": Detector(
        delivered.scl, levels=("L2A",), shadows=True, delivered=True,
        about="Sen2Cor's scene classification, delivered with L2A",
    ),
    "s2cloudless": Detector(
        s2cloudless.s2cloudless, adapt=s2cloudless.of_scene, bands=s2cloudless.BANDS, levels=("L1C",), needs="s2cloudless",
        about="Sentinel Hub's trees on ten bands of L1C (extra 'masks')",
    ),
    "sixband": Detector(
        sixband.sixband, bands=sixband.BANDS, halo=sixband.halo,
        about="brightness, haze, whiteness, snow, cirrus; any product with visible bands",
    ),
    "meraner2020": Detector(
        threshold.meraner2020, adapt=threshold.of_scene("meraner2020"), bands=threshold.BANDS, levels=("L1C",),
        halo=threshold.HALO, shadows=True, about="thresholds of Meraner 2020 as in DSen2-CR and GLF-CR",
    ),
    "tum": Detector(
        threshold.tum, adapt=threshold.of_scene("tum"), bands=threshold.BANDS, levels=("L1C",),
        halo=threshold.HALO, shadows=True, about="the same with the constants of SEN12MS-CR-TS and UnCRtainTS",
    ),
    "omnicloudmask": Detector(
        omnicloudmask.omnicloudmask, adapt=omnicloudmask.of_scene, bands=omnicloudmask.BANDS, needs="omnicloudmask",
        shadows=True, about="a network on red, green, near infrared, if installed",
    ),
}  # fmt: skip

__all__ = ["MASKS", "Detection", "Detector"]
