"""The store as it is changed: a version made champion, rolled back from, and every event noted."""
