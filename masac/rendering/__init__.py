"""What `masac render` draws."""
