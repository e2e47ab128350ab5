"""Policies that act, their files and their inputs."""
