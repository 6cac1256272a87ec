"""Bento and image: built, run, and asked over HTTP like any service."""
