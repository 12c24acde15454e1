"""The API: one patient while the caller waits, and batches for the worker."""
