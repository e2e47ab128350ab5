"""Videos: of `masac render`, and of runs that train."""
