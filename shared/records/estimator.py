"""Loads the fitted estimator of an artifact: `model.skops`, or `model.joblib` where allowed.

skops builds only objects of the types that we trust. Loading a joblib file may run any code that
its author put in. The caller has compared the file with the manifest's hash.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shared.records.errors import StartupError

SKOPS = "model.skops"
JOBLIB = "model.joblib"
PACKAGES = {
    "scikit-learn": "sklearn",
    "numpy": "numpy",
    "scipy": "scipy",
    "xgboost": "xgboost",
    "xgboost-cpu": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
}
"""Distributions whose types are trusted if the manifest names them, with their packages."""
SAFE = frozenset({"collections.OrderedDict"})
"""Types of the standard library that only hold data."""
OWN_PACKAGE = "training"
"""The demonstration's estimator is a class of this product."""


def estimator_file(files: Mapping[str, object]) -> str:
    """The name of the file that holds the estimator."""
    return SKOPS if SKOPS in files else JOBLIB


def load_estimator(
    name: str,
    content: bytes,
    libraries: Mapping[str, str],
    *,
    allow_pickle: bool,
    other_version: bool = False,
) -> Any:
    """Load the content of an estimator file. `libraries`: versions from the manifest.

    `other_version`: load what another version of scikit-learn fitted, for an import that the user
    has agreed to. Raises `StartupError`.
    """
    if name == JOBLIB and not allow_pickle:
        raise StartupError(
            f"{JOBLIB} may run any code of its author when it is loaded: set SCORER_ALLOW_PICKLE=1 "
            "if you trust the author, or pin the manifest with SCORER_MODEL_SHA256"
        )
    for library in PACKAGES.keys() & libraries.keys():
        _check_version(library, libraries[library])
    try:
        # Another version of a library may load and score wrongly: its warning is an error.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if other_version else "error")
            return _joblib(content) if name == JOBLIB else _skops(content, libraries)
    except StartupError:
        raise
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise StartupError(f"{name} needs the package {package}: install it") from error
    except Exception as error:  # the libraries' errors have no common root
        raise StartupError(f"{name} does not load: {type(error).__name__}") from error


def _check_version(library: str, trained: str) -> None:
    try:
        installed = version(library)
    except PackageNotFoundError:
        return  # the import says so, if the estimator needs it
    if library in ("numpy", "scipy"):
        return  # arrays load in every version
    if installed != trained:
        raise StartupError(
            f"the estimator was fitted with {library} {trained}, this machine has {installed}: "
            f"install {library}=={trained}, or train again"
        )


def _joblib(content: bytes) -> Any:
    import joblib

    return joblib.load(io.BytesIO(content))


def _skops(content: bytes, libraries: Mapping[str, str]) -> Any:
    import skops.io

    untrusted = skops.io.get_untrusted_types(data=content)
    refused = [name for name in untrusted if not _is_trusted(name, libraries)]
    if refused:
        raise StartupError(
            f"{SKOPS} holds types of other packages: {', '.join(refused[:10])}; only "
            "scikit-learn and the libraries of the manifest are loaded"
        )
    return skops.io.loads(content, trusted=untrusted)


def _is_trusted(name: str, libraries: Mapping[str, str]) -> bool:
    package = name.partition(".")[0]
    return (
        name in SAFE
        or package == OWN_PACKAGE
        or any(package == PACKAGES[library] for library in PACKAGES.keys() & libraries.keys())
    )
