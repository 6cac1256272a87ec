"""The commands of pipeline.py: their options, and what each does with the other rooms."""
