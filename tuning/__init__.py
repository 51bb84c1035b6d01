"""Distributed hyperparameter tuning for image classifiers; start at `launch`, then read `study` and `training`."""
