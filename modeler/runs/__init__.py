"""A run: notebooks executed, executed again and compared, and what they were made from."""
