"""Files: bytes to rows of records, and scores to bytes."""
