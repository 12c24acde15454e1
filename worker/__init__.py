"""The queue door: takes batches from the queue and writes scores to blobs."""
