"""Configs that other trainers find through masac's Hydra plugin."""
