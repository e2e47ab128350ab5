"""What `masac plot` draws, and the statistics in it."""
