"""STGAN: three dates to one, in pairs (Sarukkai et al. 2020)."""
