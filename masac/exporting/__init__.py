"""Files of `masac export`."""
