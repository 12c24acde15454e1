"""Loads the artifact that training wrote: hashes before parsing, golden records after.

An artifact is a directory: `manifest.json`, `model.onnx` (or, for runtime `sklearn`, only
the estimator) and, where the model explains its answers, `explain.onnx`. ONNX Runtime has its home
here. A check that fails raises `StartupError` with one line that says what to do; only that the
explanation loads shows when it is asked for.
"""

from __future__ import annotations

import hashlib
import math
import os
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.records.errors import RecordRejected, StartupError
from shared.records.estimator import JOBLIB, SKOPS, estimator_file, load_estimator
from shared.records.frames import decimals_of, frame_of
from shared.records.kinds import Kind, KindName, difference, kind_of
from shared.records.reference import Reference
from shared.records.schema import OLD_RECORD_ID, FieldTable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from shared.records.kinds import Outputs
    from shared.records.scoring import Matrix, Model

MANIFEST = "manifest.json"
ONNX = "model.onnx"
EXPLANATION = "explain.onnx"
CACHED_ROWS = 1024
"""Rows per run of the model: intermediate results stay in the core's cache."""
GOLDEN_TOLERANCE = 1e-6
"""Largest difference to a golden output: float32 rounding of another processor."""


class Golden(BaseModel):
    """A record and the output that the model gave for it when it was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    record: dict[str, float | str | None] = Field(repr=False)
    output: tuple[float, ...]

    @model_validator(mode="before")
    @classmethod
    def _read_probability(cls, members: Any) -> Any:
        """Manifests of version 1.0 have one member `probability` in place of `output`."""
        if isinstance(members, dict) and "probability" in members:
            members = {"output": (members["probability"],), **members}
            del members["probability"]
        return members


class ModelFacts(BaseModel):
    """The facts that identify a model in answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    format_version: Literal[1] = 1
    name: str
    version: str
    title: str = ""
    """The score in words, such as "Probability of a skid"."""
    notice: str = ""
    """Text to show with every score."""
    noun: str = "record"
    """Names one row for people: customer, part, order."""
    nouns: str = "records"
    outcome: str = "the outcome"
    """Completes the sentence "31 of them had …"."""
    runtime: Literal["onnx", "sklearn"] = "onnx"
    files: dict[str, str]
    """SHA-256 of each file of the artifact."""
    data_sha256: str
    kind: KindName = "probability"
    """The kind of answer, in full in `answer_kind`."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Of the kind `probability`: `prediction` is 1 from here on."""
    classes: tuple[str, ...] = ()
    """Of the kind `classes`: their names, in the order of the model's outputs."""
    unit: str = ""
    """Of the kind `value`."""
    rounding_limit: float = Field(default=1e-4, ge=0)
    """Largest change of an output that rounding the data to float32 may cause."""
    frame: bool = False
    """The estimator takes a DataFrame with words instead of codes."""
    one_by_one: bool = False
    """The ONNX model gets one row at a time."""
    decimals: bool = False
    """The estimator gets the shortest decimal of each float32 value, not the value itself."""
    reference: Reference | None = None
    """The training data's distribution; None: trained before it was recorded, or imported."""
    figures: dict[str, Any] = {}
    libraries: dict[str, str] = {}

    @cached_property
    def answer_kind(self) -> Kind:
        """The kind of the model's answers."""
        return kind_of(self.kind, threshold=self.threshold, classes=self.classes, unit=self.unit)

    @model_validator(mode="before")
    @classmethod
    def _read_old(cls, members: Any) -> Any:
        """Manifests of version 1.0 do not name the record's own id."""
        if isinstance(members, dict) and isinstance(fields := members.get("fields"), dict):
            return {**members, "fields": {"record_id": OLD_RECORD_ID, **fields}}
        return members

    @model_validator(mode="after")
    def _has_its_kind(self) -> Self:
        _ = self.answer_kind
        return self


class Manifest(ModelFacts):
    """The manifest: the model's description and origin."""

    fields: FieldTable
    golden: tuple[Golden, ...] = Field(min_length=1)

    @property
    def served_file(self) -> str:
        """The name of the file that computes the scores."""
        return ONNX if self.runtime == "onnx" else estimator_file(self.files)

    @property
    def has_estimator(self) -> bool:
        """Whether the artifact holds the scikit-learn estimator; an imported ONNX file does not."""
        return not {SKOPS, JOBLIB}.isdisjoint(self.files)

    @property
    def served_sha256(self) -> str:
        """SHA-256 of the file that computes the scores; equal models have the same."""
        return self.files.get(self.served_file, "")


class Artifact:
    """A loaded and checked model with its manifest."""

    def __init__(self, manifest: Manifest, sha256: str, model: Model) -> None:
        self.manifest = manifest
        self.sha256 = sha256
        """SHA-256 of `manifest.json`, which holds those of all other files."""
        self.model = model

    def golden_holds(self) -> bool:
        """Whether the model still gives its own golden answers."""
        try:
            check_golden(self.manifest, self.model)
        except StartupError:
            return False
        return True


def read_manifest(directory: Path, expected_sha256: str | None = None) -> tuple[Manifest, str]:
    """The manifest and its SHA-256, compared with the expected one. Raises `StartupError`."""
    path = directory / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StartupError(
            f"no model in {directory}: {error.strerror}; run `heart-scorer train`"
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if expected_sha256 and sha256 != expected_sha256.lower():
        raise StartupError(
            f"{path} has SHA-256 {sha256}, SCORER_MODEL_SHA256 asks for {expected_sha256}"
        )
    try:
        return Manifest.model_validate_json(content), sha256
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise StartupError(f"{path} is not a manifest: {where}: {fault['msg']}") from error


def load_artifact(
    directory: Path, expected_sha256: str | None = None, *, allow_pickle: bool = False
) -> Artifact:
    """Load and check the artifact in `directory`.

    A joblib file is loaded if `allow_pickle` is set or the manifest is pinned. Raises
    `StartupError`.
    """
    manifest, sha256 = read_manifest(directory, expected_sha256)
    if manifest.runtime == "sklearn":
        allowed = allow_pickle or expected_sha256 is not None
        sklearn_model = read_estimator(directory, manifest, allow_pickle=allowed)
        check_golden(manifest, sklearn_model)
        return Artifact(manifest, sha256, sklearn_model)
    content = _read(directory / ONNX, manifest)
    explains = EXPLANATION in manifest.files
    explanation = _read(directory / EXPLANATION, manifest) if explains else None
    try:
        model = OnnxModel(content, manifest, explanation)
    except ImportError as error:
        raise StartupError(f"runtime {manifest.runtime} needs {error.name}: install it") from error
    except Exception as error:  # the libraries' own errors have no common root
        raise StartupError(f"{directory / ONNX} does not load: {type(error).__name__}") from error
    check_golden(manifest, model)
    return Artifact(manifest, sha256, model)


def read_estimator(directory: Path, manifest: Manifest, *, allow_pickle: bool) -> SklearnModel:
    """Load the estimator of an artifact after checking its hash. Raises `StartupError`."""
    if manifest.frame and find_spec("pandas") is None:
        raise StartupError("an estimator of DataFrames needs the package pandas: install it")
    name = estimator_file(manifest.files)
    content = _read(directory / name, manifest)
    estimator = load_estimator(name, content, manifest.libraries, allow_pickle=allow_pickle)
    return SklearnModel(estimator, manifest)


def read_reference(directory: Path, manifest: Manifest, *, allow_pickle: bool) -> Model:
    """The model that `verify` scores with: the estimator, or without one the ONNX file."""
    if manifest.has_estimator:
        return read_estimator(directory, manifest, allow_pickle=allow_pickle)
    return OnnxModel(_read(directory / ONNX, manifest), manifest)


def _read(path: Path, manifest: Manifest) -> bytes:
    """A file of the artifact, compared with its hash. Raises `StartupError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StartupError(f"no {path.name} in {path.parent}: {error.strerror}") from error
    found, expected = hashlib.sha256(content).hexdigest(), manifest.files.get(path.name)
    if found != expected:
        raise StartupError(
            f"{path} has SHA-256 {found}, its manifest says {expected}; "
            "the artifact was changed or mixed: run `heart-scorer train` again"
        )
    return content


def check_golden(manifest: Manifest, model: Model) -> None:
    """Score the golden records and compare. Raises `StartupError`."""
    table = manifest.fields
    try:
        records = [table.read(golden.record) for golden in manifest.golden]
    except RecordRejected as error:
        raise StartupError(f"a golden record of the manifest is refused: {error}") from error
    rows = np.array([[r.values[i] for i in table.used] for r in records], np.float32)
    try:
        found = model.outputs(rows)
    except Exception as error:  # any error of the runtime means that the model cannot serve
        raise StartupError(f"the model fails on its golden records: {type(error).__name__}") from (
            error
        )
    for number, (golden, output) in enumerate(zip(manifest.golden, found, strict=True), 1):
        if np.size(output) != len(golden.output):
            raise StartupError(f"golden record {number} has another kind of answer in its manifest")
        largest = float(difference(np.ravel(output), np.array(golden.output)).max())
        if math.isnan(largest) or largest > GOLDEN_TOLERANCE:
            raise StartupError(
                f"golden record {number} scores {largest:.2g} away from its manifest; "
                "this machine or library does not run the model as it was trained"
            )


class OnnxModel:
    """A model.onnx under ONNX Runtime: input `fields`, one output, named by the kind of answer."""

    def __init__(
        self, content: bytes, manifest: Manifest, explanation: bytes | None = None
    ) -> None:
        """`explanation`: the same with outputs `contributions` and `intercept`.

        It is loaded on first use: most servers never need it, and it takes memory.
        """
        self._session = _session(content)
        self._output = [manifest.answer_kind.output]
        self._explanation = explanation
        self._step = 1 if manifest.one_by_one else CACHED_ROWS
        self.version = manifest.version

    def outputs(self, rows: Matrix) -> Outputs:
        if len(rows) <= self._step:
            return self._run(rows)
        starts = range(0, len(rows), self._step)
        return np.concatenate([self._run(rows[start : start + self._step]) for start in starts])

    def _run(self, rows: Matrix) -> Outputs:
        found: Outputs = self._session.run(self._output, {"fields": rows})[0]
        return found

    def explain(self, rows: Matrix) -> tuple[Matrix, Outputs]:
        """Contributions in log-odds [n, fields used] and intercept [n].

        They sum to the logit of the probability, to float32 rounding. Raises `KeyError` when the
        model explains nothing.
        """
        contributions, intercept = self._explainer.run(
            ["contributions", "intercept"], {"fields": rows}
        )
        return contributions, intercept

    @cached_property
    def _explainer(self) -> InferenceSession:
        if self._explanation is None:
            raise KeyError("the model explains nothing")
        return _session(self._explanation)


def _session(content: bytes) -> InferenceSession:
    """One thread: a block is scored in milliseconds, and the cores belong to the other slots."""
    # Without this the runtime sends telemetry. Setting it after the import is too late.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The arena never releases the largest block's memory; without it memory stays flat.
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class SklearnModel:
    """A fitted estimator, for estimators that do not convert to ONNX."""

    def __init__(self, estimator: Any, manifest: Manifest) -> None:
        self._estimator = estimator
        self._table = manifest.fields if manifest.frame else None
        self._kind = manifest.answer_kind
        self._decimals = manifest.decimals
        self.version = manifest.version

    def exact(self, rows: Matrix) -> np.ndarray[Any, Any]:
        """The float64 rows that the estimator gets.

        Estimators are fitted on float64 arrays. In float32 some compute otherwise: a histogram
        tree compares with thresholds that float32 cannot hold. Training fits on rounded values. A
        finished estimator was fitted to the numbers themselves, so it gets back what was sent.
        """
        if self._decimals and rows.dtype == "float32":
            return decimals_of(rows)
        return rows.astype("float64")

    def outputs(self, rows: Matrix) -> Outputs:
        values: Any = self.exact(rows)
        if self._table is not None:
            values = frame_of(self._table, values)
        return self._kind.of_estimator(self._estimator, values).astype("float32")
