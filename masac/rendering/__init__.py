"""Videos of `masac render`."""
