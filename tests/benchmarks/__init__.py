"""Benchmarks: ratios to what a user would otherwise do, both sides measured in the same run."""
