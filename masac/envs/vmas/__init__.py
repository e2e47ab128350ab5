"""VMAS scenarios."""
