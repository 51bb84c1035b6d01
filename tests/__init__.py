"""The tests, a package: a module of theirs has one name, `tests.patience`, for pytest, for mypy and in processes."""
