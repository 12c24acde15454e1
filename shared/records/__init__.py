"""Records: the field table, the reader of a record, errors, scoring and the artifact."""
