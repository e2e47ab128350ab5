"""What `masac export` writes."""
