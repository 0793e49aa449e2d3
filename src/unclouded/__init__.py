"""Remove clouds from Sentinel-2 images with the help of Sentinel-1 radar."""

__version__ = "0.1.0"
