"""Dask clusters, of this machine or of others: found, checked, and given the package."""
