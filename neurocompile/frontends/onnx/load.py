"""Read an ONNX file as input from a stranger: complete, checked, finite, and nothing outside its
folder.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import numpy_helper

from neurocompile.errors import NeurocompileError
from neurocompile.files import open_input
from neurocompile.frontends.diagnosis import NotSupportedError, Problem, not_finite, unsupported
from neurocompile.frontends.formats import recognized
from neurocompile.frontends.onnx.lif import DOMAIN, register_schema
from neurocompile.reference.large import check_proto

__all__ = ["LoadedModel", "load_onnx", "with_head"]

_MAX_BYTES = 2**31 - 1  # protobuf's own limit for one message
_MASKING = frozenset(
    "Add Cast Expand Identity Reshape Slice Squeeze Transpose Trilu Unsqueeze Where".split()
)
"""What may read a mask of minus infinity."""
_MAX_EXTERNAL = 2**34  # bytes of all external tensors: a sparse file must not fill the memory


class LoadedModel:
    """A checked ONNX model.

    Attributes:
        proto: the model, external data resolved.
        constants: initializers and Constant outputs of the top graph by name, as numpy arrays.
        sha256: hash of the file's bytes followed by its external data, as hex.
        path: where it was read.
        original: the file's own graph, where ``proto`` is one in which neurons were recovered; else
            None.
    """

    def __init__(
        self, proto: onnx.ModelProto, constants: dict[str, np.ndarray], sha256: str, path: Path
    ) -> None:
        self.proto, self.constants, self.sha256, self.path = proto, constants, sha256, path
        self.original: onnx.ModelProto | None = None

    def rewritten(self, proto: onnx.ModelProto, recovered: bool = True) -> LoadedModel:
        """The same file, read as ``proto``; ``recovered``: in which neurons were found."""
        if proto is self.proto:
            return self
        model = LoadedModel(proto, _constants(proto), self.sha256, self.path)
        model.original = self.proto if recovered else None
        return model

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata_props."""
        return {p.key: p.value for p in self.proto.metadata_props}


def with_head(proto: onnx.ModelProto, head: int | str | None) -> onnx.ModelProto:
    """``proto`` itself, or a copy of which only the output ``head``, by name or number, is left;
    NC1009 if it has none.
    """
    names = [o.name for o in proto.graph.output]
    if head is None or len(names) == 1 and head in (names[0], 0, "0"):
        return proto
    index = int(head) if isinstance(head, int) or head.isdecimal() and head not in names else None
    place = names.index(head) if head in names else index
    if place is None or not 0 <= place < len(names):
        raise NeurocompileError(
            "NC1009", f"there is no output {head!r}; the file has {', '.join(map(repr, names))}"
        )
    one = onnx.ModelProto()
    one.CopyFrom(proto)
    del one.graph.output[:]
    one.graph.output.append(proto.graph.output[place])
    return one


def load_onnx(path: str | Path) -> LoadedModel:
    """Read and check ``path``.

    Raises NC1001 (unreadable), NC1002 (not ONNX, truncated), NC1003 (operators that ONNX does not
    define), NC1004 (non-finite constant), NC1005 (external data outside the folder).
    """
    path = Path(path)
    try:
        with open_input(path) as file:
            if os.fstat(file.fileno()).st_size > _MAX_BYTES:
                what = recognized(path) or "larger than 2 GiB; store its weights as external data"
                raise NeurocompileError("NC1002", f"'{path}' is {what}")
            data = file.read()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise NeurocompileError("NC1001", f"cannot read '{path}': {why}") from error
    try:
        return _checked(data, path)
    except NeurocompileError:
        raise
    except (
        Exception
    ) as error:  # a damaged file reaches code of onnx and protobuf that expects checked fields
        raise NeurocompileError(
            "NC1002", f"'{path}' is damaged: {type(error).__name__}: {str(error)[:160]}"
        ) from error


def _checked(data: bytes, path: Path) -> LoadedModel:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        what = recognized(path) or f"not an ONNX file or is cut short ({len(data):,} bytes)"
        raise NeurocompileError("NC1002", f"'{path}' is {what}") from error
    if not proto.graph.node:
        what = recognized(path)
        raise NeurocompileError(
            "NC1002",
            f"'{path}' is {what}"
            if what
            else f"'{path}' holds no graph ({len(data):,} bytes): the file is empty or cut short",
        )
    digest, left = hashlib.sha256(data), _MAX_EXTERNAL
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raw = _read_external(tensor, path, left)
            digest.update(raw)
            left -= len(raw)
    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise NeurocompileError(
                "NC1005",
                f"'{path}': tensor '{tensor.name}' is stored outside the file; only initializers may be",
            )
    try:
        register_schema()  # or the verdict on a LIF node would depend on what else was imported
        check_proto(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        undefined = _undefined(proto)
        if undefined:
            raise NotSupportedError(undefined) from error
        reason = str(error).strip().splitlines()[0]
        raise NeurocompileError(
            "NC1002", f"'{path}' fails the ONNX checker: {reason[:200]}"
        ) from error
    return LoadedModel(proto, _constants(proto), digest.hexdigest(), path)


def _undefined(proto: onnx.ModelProto) -> list[Problem]:
    """Operators that ONNX does not define in the opset that the file names."""
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in proto.opset_import}
    local = {(f.domain, f.name) for f in proto.functions}
    problems = []
    for node in proto.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if (node.domain, node.op_type) in local or domain == DOMAIN:
            continue
        if domain:
            known = domain in opsets
            why = f"is not supported, and the file does not import its domain '{domain}'"
        else:
            known = _has_schema(node.op_type, opsets.get("", 1))
            why = f"is none that ONNX defines in opset {opsets.get('', 1)}{_meant(node.op_type)}"
        if not known:
            problems.append(unsupported(node, why))
    return problems


def _meant(operator: str) -> str:
    """A question after an operator of almost the same name."""
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""} - {
        operator
    }
    close = difflib.get_close_matches(operator, sorted(names), 1, 0.8)
    return f" (did you mean {close[0]}?)" if close else ""


def _has_schema(operator: str, version: int) -> bool:
    try:
        onnx.defs.get_schema(operator, version, "")
    except onnx.defs.SchemaError:
        return False
    return True


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in a message."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                yield from _tensors(part)


def _read_external(tensor: onnx.TensorProto, path: Path, left: int) -> bytes:
    """Load one external tensor in place and return its bytes, at most ``left``."""
    info = {entry.key: entry.value for entry in tensor.external_data}
    location = info.get("location", "")
    folder = path.parent.resolve()
    target = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not target.is_relative_to(folder):
        raise NeurocompileError(
            "NC1005",
            f"'{path}': tensor '{tensor.name}' points to '{location}', outside the model's folder; refused",
        )
    needed = (
        math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    )
    try:
        offset, length = int(info.get("offset", 0)), int(info.get("length", -1))
        with open_input(target) as file:
            there = max(os.fstat(file.fileno()).st_size - offset, 0)
            there = min(there, length) if length >= 0 else there
            if min([offset, *tensor.dims]) < 0 or there != needed or needed > left:
                limit = (
                    f" (of {left:,} that are left of {_MAX_EXTERNAL:,})" if needed > left else ""
                )
                raise NeurocompileError(
                    "NC1002",
                    f"'{path}': external data of '{tensor.name}' {list(tensor.dims)} has {there:,} bytes from "
                    f"{offset:,}, needs {needed:,}{limit}",
                )
            file.seek(offset)
            raw = file.read(needed)
    except NeurocompileError as error:
        if error.code != "NC1001":
            raise
        raise NeurocompileError(
            "NC1001", f"'{path}': external data '{location}': {error.message}"
        ) from error
    except (OSError, ValueError) as error:
        raise NeurocompileError(
            "NC1001", f"'{path}': external data '{location}' cannot be read: {error}"
        ) from error
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.raw_data = raw
    return raw


def _constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    constants = {}
    for tensor in proto.graph.initializer:
        try:
            constants[tensor.name] = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise NeurocompileError(
                "NC1002", f"initializer '{tensor.name}' is damaged: {error}"
            ) from error
    for node in proto.graph.node:
        if node.op_type == "Constant" and not node.domain:
            attribute = node.attribute[0]
            value = onnx.helper.get_attribute_value(attribute)
            constants[node.output[0]] = (
                numpy_helper.to_array(value)
                if isinstance(value, onnx.TensorProto)
                else np.asarray(value)
            )
    for name, array in constants.items():
        if array.dtype.kind not in "fc" or np.isfinite(array).all():
            continue
        readers = {node.op_type for node in proto.graph.node if name in node.input}
        if not (np.isfinite(array) | np.isneginf(array)).all() or readers - _MASKING:
            raise NeurocompileError("NC1004", f"constant '{name}' {not_finite(array)}")
    return constants
