"""U-TILISE: a series to a series (Stucker et al. 2023)."""
