"""One script a claim: each prints a table and can write JSON with versions and device."""
