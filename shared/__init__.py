"""The model module that the API and the worker share: records, files, batches, storage."""

import os

__version__ = "1.0.0"

# Without this, pydantic reads the entry points of all packages at each start to find plugins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
