"""Dask clusters, of this machine or of others: found, checked, and given the package."""

from modeler.cluster.connect import join_cluster

__all__ = ["join_cluster"]
