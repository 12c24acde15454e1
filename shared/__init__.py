"""What both doors stand on: the field table, the one scoring path, tables, messages, storage."""

__version__ = "0.1.0"
