"""Hydra presets: tasks, algorithms and the experiment they make up."""
