"""Example model files: other estimators, other data, another runtime."""
