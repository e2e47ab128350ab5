"""Scripts that draw the pictures of the documentation from the results of masac's functions."""
