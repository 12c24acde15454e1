"""Batches: messages, progress, results and the ports to queue and blobs."""
