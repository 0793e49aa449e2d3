"""Metrics: pure functions on NumPy images (C, H, W) in reflectance, with masks, one definition per named convention.

`pair` holds a prediction beside its reference and the maps that metrics share; `pixel`, `spectral`, `structural` and
`calibration` define the metrics; `manifold` compares sets of images; `areas` cuts an image into the parts papers score apart.

A metric is a small frozen record with two functions: `state(pair, where)` gives sums over one image that may be added, and
`value(sums)` turns sums into the number. The mean over images, over batches and over all pixels are then one rule: when to
add. Empty sets have a defined result everywhere: NaN, never 0 and never an exception.
"""
