"""Environments as TorchRL ones: VMAS scenarios, PettingZoo's parallel environments, and a user's own."""
