"""Model files to start from: other estimators, other data, another runtime."""
