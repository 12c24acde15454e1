"""Reads a finished model: joblib, pickle, skops, an MLflow folder or an ONNX file.

The version of the library that fitted it is read before anything is loaded. Loading a pickle may
run any code that its author put in; skops and the native format of XGBoost build known types only.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import warnings
import zipfile
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import joblib

from shared.records.errors import StartupError
from shared.records.estimator import PACKAGES, SKOPS, load_estimator
from training.errors import TrainingError
from training.importing.table import MLMODEL, read_mlmodel

PICKLES = (".joblib", ".pkl", ".pickle")
FITTED_WITH = re.compile(
    rb"_sklearn_version(?:\x94|q.|r.{4})?(?:\x8c(.)|X(.{4}))(?=\d+\.)", re.DOTALL
)
"""In a pickle: the key, its number, and the opcode of a text with its length."""
FITTED_WITH_SKOPS = re.compile(r'"_sklearn_version":[^}]*?"content": "\\"([\w.]+)\\""', re.DOTALL)


class Finished(NamedTuple):
    """A finished model as it was found."""

    model: Any
    """A fitted estimator, or the bytes of an ONNX file."""
    origin: str
    """A phrase for the card: the file and what fitted it."""


class Trust(NamedTuple):
    """The user's consent to load what may be unsafe."""

    pickle: bool = False
    """Load files that may run any code of their author."""
    other_version: bool = False
    """Load an estimator that another version of its library fitted."""


def read_model(path: Path, trust: Trust) -> Finished:
    """Read a model file or folder. Raises `TrainingError`."""
    if path.is_dir() or path.name == MLMODEL:
        return _mlflow(path if path.is_dir() else path.parent, trust)
    return Finished(*_read_file(path, trust))


def _read_file(path: Path, trust: Trust) -> tuple[Any, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"no model {path}: {error.strerror}") from error
    if path.suffix == ".onnx":
        return content, path.name
    if path.suffix not in (*PICKLES, ".skops"):
        raise TrainingError(
            f"{path.name} is not a model that can be imported: give a .joblib, .pkl, .skops or "
            ".onnx file, or the folder of an MLflow model"
        )
    fitted = _fitted_with(content, skops=path.suffix == ".skops")
    check_version(path.name, "scikit-learn", fitted, trust)
    origin = path.name + (f", fitted with scikit-learn {fitted}" if fitted else "")
    if path.suffix == ".skops":
        return _skops(path, content, trust), origin
    return _pickle(path, content, trust), origin


def _fitted_with(content: bytes, *, skops: bool) -> str | None:
    """The version of scikit-learn that a file names, without loading it."""
    if skops:
        try:
            schema = zipfile.ZipFile(io.BytesIO(content)).read("schema.json").decode()
        except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
            return None
        matches = FITTED_WITH_SKOPS.search(schema)
        return matches[1] if matches else None
    content = _unpacked(content)
    found = FITTED_WITH.search(content)
    if found is None:
        return None
    length = int.from_bytes(found[1] or found[2], "little")
    return content[found.end() : found.end() + length].decode(errors="replace")


def _unpacked(content: bytes) -> bytes:
    """A pickle that joblib may have compressed."""
    readers = {b"\x1f\x8b": gzip, b"BZ": bz2, b"]\x00": lzma, b"\xfd7": lzma, b"x": zlib}
    for magic, reader in readers.items():
        if content.startswith(magic):
            try:
                unpacked: bytes = reader.decompress(content)
            except (OSError, EOFError, zlib.error, lzma.LZMAError):
                break
            return unpacked
    return content


def check_version(name: str, library: str, fitted: str | None, trust: Trust) -> None:
    """Compare the version that fitted a model with the installed one. Raises `TrainingError`."""
    try:
        installed = version(library)
    except PackageNotFoundError:
        return  # loading says so
    if fitted is None or fitted == installed or trust.other_version:
        return
    raise TrainingError(
        f"{name} was fitted with {library} {fitted}, this machine has {installed}, which may "
        f"compute other scores: install {library}=={fitted}, fit it again, or import it with "
        "--accept-version and compare its scores with yours"
    )


def _pickle(path: Path, content: bytes, trust: Trust) -> Any:
    if not trust.pickle:
        raise TrainingError(
            f"{path.name} may run any code of its author when it is loaded: set "
            "SCORER_ALLOW_PICKLE=1 if you trust the author, or save the model with skops"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if trust.other_version else "error")
            return joblib.load(io.BytesIO(content))
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise TrainingError(f"{path.name} needs the package {package}: install it") from error
    except Exception as error:  # a pickle may raise anything
        lines = str(error).splitlines() or ["no reason given"]
        raise TrainingError(
            f"{path.name} does not load: {type(error).__name__}: {lines[0][:200]}"
        ) from error


def _skops(path: Path, content: bytes, trust: Trust) -> Any:
    installed = {}
    for library in PACKAGES:
        try:
            installed[library] = version(library)
        except PackageNotFoundError:
            continue
    try:
        return load_estimator(
            SKOPS, content, installed, allow_pickle=False, other_version=trust.other_version
        )
    except StartupError as error:
        raise TrainingError(str(error).replace(SKOPS, path.name)) from error


def _mlflow(folder: Path, trust: Trust) -> Finished:
    """The model of an MLflow folder, by the library of its flavour."""
    flavors = read_mlmodel(folder / MLMODEL)["flavors"]
    match flavors:
        case {"sklearn": about}:
            check_version(folder.name, "scikit-learn", about.get("sklearn_version"), trust)
            model, origin = _read_file(_inside(folder, about["pickled_model"]), trust)
        case {"xgboost": about}:
            # No comparison of versions: XGBoost keeps this format readable and its scores the same.
            model = _xgboost(_inside(folder, about["data"]), str(about.get("model_class", "")))
            origin = f"{about['data']}, fitted with XGBoost {about.get('xgb_version')}"
        case {"lightgbm": about}:
            check_version(folder.name, "lightgbm", about.get("lgb_version"), trust)
            file = _inside(folder, about["data"])
            if file.suffix not in (*PICKLES, ".skops"):
                raise TrainingError(
                    f"{folder.name} holds a Booster of LightGBM: save the LGBMClassifier or "
                    "LGBMRegressor itself with mlflow.lightgbm.save_model"
                )
            model, _ = _read_file(file, trust)
            origin = f"{file.name}, fitted with LightGBM {about.get('lgb_version')}"
        case {"onnx": about}:
            model, origin = _read_file(_inside(folder, about["data"]), trust)
        case _:
            raise TrainingError(
                f"{folder.name} has the flavours {', '.join(flavors)}: only sklearn, xgboost, "
                "lightgbm and onnx can be imported"
            )
    return Finished(model, f"the MLflow model {folder.name}, {origin}")


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise TrainingError(f"{folder.name}: MLmodel names a file outside its folder")
    return path


def _xgboost(path: Path, model_class: str) -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise TrainingError(f"{path.name} needs the package xgboost: install it") from error
    regression = model_class.endswith("XGBRegressor")
    estimator = xgboost.XGBRegressor() if regression else xgboost.XGBClassifier()
    try:
        estimator.load_model(path)
    except (xgboost.core.XGBoostError, OSError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0][:200]
        raise TrainingError(f"{path.name} does not load: {reason}") from error
    return estimator
