"""The service: from a request to its answer, and what a bento says of itself; served."""
