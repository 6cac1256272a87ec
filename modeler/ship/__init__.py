"""Bento and image: how they are built, run, and asked over HTTP like any service."""
