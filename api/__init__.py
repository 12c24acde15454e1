"""The API: one record while the caller waits, and batches for the worker."""
