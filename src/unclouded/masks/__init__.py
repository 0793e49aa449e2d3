"""Room 2: cloud and shadow detectors, Sample -> Detection. The table of detectors is `MASKS`; a scene goes through `detect`."""

from __future__ import annotations

from unclouded.masks.delivered import given, given_of, scl
from unclouded.masks.detection import Detection, Detector
from unclouded.masks.threshold import BANDS, HALO, meraner2020, of_scene, tum

MASKS: dict[str, Detector] = {
    "scl": Detector(scl, levels=("L2A",), shadows=True, about="Sen2Cor's scene classification, delivered with L2A"),
    "file": Detector(given, adapt=given_of, shadows=True, about="a mask file: our classes, or 0 clear and 1 hidden"),
    "meraner2020": Detector(
        meraner2020, adapt=of_scene("meraner2020"), bands=BANDS, levels=("L1C",), halo=HALO, shadows=True,
        about="thresholds of Meraner 2020 as in DSen2-CR and GLF-CR",
    ),
    "tum": Detector(
        tum, adapt=of_scene("tum"), bands=BANDS, levels=("L1C",), halo=HALO, shadows=True,
        about="the same detector with the constants of SEN12MS-CR-TS and UnCRtainTS",
    ),
}  # fmt: skip

__all__ = ["MASKS", "Detection", "Detector"]
