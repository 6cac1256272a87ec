"""Batch scoring: from a file or folder to a file or folder of answers, on this machine or on a Dask cluster."""
