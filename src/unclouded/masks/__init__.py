"""Room 2: cloud and shadow detectors, Sample -> Detection. The table of detectors is `MASKS`."""
