"""Joining or starting a Ray cluster, and the arithmetic of how many trials fit into it."""
