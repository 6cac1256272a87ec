"""Sweeps: the notebooks once per combination of parameters, on this machine or on a Dask cluster, ranked."""
