"""Environments as TorchRL ones: VMAS scenarios and a user's own."""
