"""A run: executing notebooks, executing them again to compare, and recording what they were made from."""
