"""The model module that the API and the worker share: records, files, batches, storage."""

import os

__version__ = "1.0.0"

# Or pydantic, to find plugins, reads the entry points of all that is installed, at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
