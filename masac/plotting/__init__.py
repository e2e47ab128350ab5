"""Pictures and statistics of `masac plot`."""
