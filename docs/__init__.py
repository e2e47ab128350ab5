"""The documentation: pages, their generated parts and pictures."""
