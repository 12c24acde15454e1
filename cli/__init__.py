"""The command line: runs the product on one machine, submits and monitors batches."""
