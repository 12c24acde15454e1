"""Reads a model file: a Python file that defines `MODEL = Recipe(...)`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from training.checks import errors_as_sentences
from training.errors import TrainingError
from training.recipe import Recipe


def read_model_file(path: Path) -> Recipe:
    """Run a model file and return its `MODEL`. Raises `TrainingError`."""
    spec = importlib.util.spec_from_file_location(f"model_file_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TrainingError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # joblib looks there for classes of the file
    folder = str(path.absolute().parent)
    sys.path.insert(0, folder)  # it may import files next to it, as when Python runs it
    try:
        with errors_as_sentences(str(path)):
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    recipe = getattr(module, "MODEL", None)
    if not isinstance(recipe, Recipe):
        raise TrainingError(f"{path} defines no MODEL = Recipe(...)")
    return recipe
