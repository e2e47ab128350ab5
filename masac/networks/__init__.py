"""Actors and critics for groups of agents: one batched matmul a layer over agents and critics."""
