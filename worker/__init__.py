"""The worker: takes batches from the queue and writes scores to blobs."""
