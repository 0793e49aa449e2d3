"""The one gateway to raster files (placeholder until its owner writes it)."""
