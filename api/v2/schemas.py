"""Bodies of the Open Inference Protocol."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]
Size = Annotated[StrictInt, Field(ge=0)]


class _Lenient(BaseModel):
    """Clients may add members; those that we read are checked. `null` means absent."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_null(cls, members: Any) -> Any:
        if not isinstance(members, dict):
            return members
        return {name: value for name, value in members.items() if value is not None}


class InputParameters(_Lenient):
    """The size of a tensor's bytes after the JSON, if it has any."""

    binary_data_size: Size | None = None


class InputTensor(_Lenient):
    """A tensor as it is sent: its values nested or flat in `data`, or after the JSON."""

    name: str
    shape: Annotated[list[Size], Field(min_length=1, max_length=2)]
    datatype: Datatype
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(default=None, repr=False)


class OutputParameters(_Lenient):
    """The form of one output."""

    binary_data: StrictBool | None = None


class OutputRequest(_Lenient):
    """A requested output."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferParameters(_Lenient):
    """The form of all outputs."""

    binary_data_output: StrictBool = False


class InferRequest(_Lenient):
    """The JSON part of a request."""

    id: Annotated[str, Field(max_length=128)] | None = None
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: list[OutputRequest] = []


class BinarySize(BaseModel):
    """Bytes of an output after the JSON."""

    binary_data_size: int


class OutputTensor(BaseModel):
    """An output: its values in `data`, or in binary after the JSON."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[float] | list[int] | list[str] | None = None
    parameters: BinarySize | None = None


class InferResponse(BaseModel):
    """The JSON part of an answer."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class ServerMetadata(BaseModel):
    """The server."""

    name: str = "heart-scorer"
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class ServerLive(BaseModel):
    """The process is alive."""

    live: bool = True


class ServerReady(BaseModel):
    """Whether rows can be scored."""

    live: bool = True
    ready: bool


class ModelReady(BaseModel):
    """The model is loaded."""

    name: str
    ready: bool = True


class TensorMetadata(BaseModel):
    """An input or output of the model; -1 means any number of rows."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, Any] | None = None


class ModelMetadata(BaseModel):
    """The model's tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(BaseModel):
    """A tensor as in Triton's model configuration."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfig(BaseModel):
    """The part of Triton's model configuration that its clients read."""

    name: str
    platform: str
    max_batch_size: Literal[0] = 0
    """0: the first of `dims` is the number of rows."""
    input: list[TensorConfig]
    output: list[TensorConfig]
