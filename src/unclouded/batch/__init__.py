"""Many products: a list of units (jobs.py), worked off by processes or by Dask (run.py). A unit is one product."""
