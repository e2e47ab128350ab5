"""The pictures of the documentation, drawn by scripts from what masac's own functions say."""
