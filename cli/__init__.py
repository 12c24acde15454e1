"""The command line: runs the whole product on one machine, submits batches, looks after them."""
