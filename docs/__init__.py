"""The documentation: pages, what is generated into them, and their pictures."""
