"""The gate: the checks between a candidate and the store."""
