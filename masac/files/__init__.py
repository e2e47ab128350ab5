"""Files that are written atomically and checked when they are read."""
