"""The C++ loader of TensorFlow Serving, called by ctypes through the C API of the tensorflow wheel.

It runs in separate processes, which import neither Python's TensorFlow nor Keras nor keras_gen.
"""

import ctypes
import importlib.util
import math
import pathlib
import struct
import sys
import types

import numpy as np

WHEEL = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
CODES = [  # of TF_Code, in its order
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
]
DTYPES = {
    1: np.dtype("float32"),
    3: np.dtype("int32"),
    7: np.dtype(object),
    9: np.dtype("int64"),
    10: np.dtype(bool),
}
NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
STRING_SIZE = 24  # sizeof(TF_TString)

# The protocol messages without the package, whose __init__ would load Python's TensorFlow.
sys.modules["tensorflow"] = types.ModuleType("tensorflow")
sys.modules["tensorflow"].__path__ = [str(WHEEL)]
from tensorflow.core.framework import tensor_pb2  # noqa: E402
from tensorflow.core.protobuf import meta_graph_pb2  # noqa: E402


class Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


RESULTS = {
    **dict.fromkeys(["TF_GetCode", "TF_NumDims", "TF_TensorType"], ctypes.c_int),
    **dict.fromkeys(["TF_TensorByteSize", "TF_StringGetSize"], ctypes.c_size_t),
    "TF_Dim": ctypes.c_int64,
    "TF_Message": ctypes.c_char_p,
    "TF_NewBuffer": ctypes.POINTER(Buffer),
}


class Library:
    """The functions of the C API. Each returns a pointer unless RESULTS says otherwise."""

    def __init__(self):
        self.framework = ctypes.CDLL(
            str(WHEEL / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL
        )
        self.cc = ctypes.CDLL(str(WHEEL / "libtensorflow_cc.so.2"))

    def __getattr__(self, name):
        function = getattr(self.cc, name, None) or getattr(self.framework, name)
        function.restype = RESULTS.get(name, ctypes.c_void_p)
        setattr(self, name, function)
        return function


tf = Library()


class LoaderError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Status:
    """A TF_Status that becomes a LoaderError."""

    def __enter__(self):
        self.pointer = ctypes.c_void_p(tf.TF_NewStatus())
        return self.pointer

    def __exit__(self, *exception):
        code, message = tf.TF_GetCode(self.pointer), tf.TF_Message(self.pointer).decode()
        tf.TF_DeleteStatus(self.pointer)
        if code and not exception[0]:
            raise LoaderError(CODES[code], message)


class SavedModel:
    """A SavedModel as TensorFlow Serving loads it."""

    def __init__(self, folder):
        self.graph = ctypes.c_void_p(tf.TF_NewGraph())
        options = ctypes.c_void_p(tf.TF_NewSessionOptions())
        meta_graph = tf.TF_NewBuffer()
        tags = (ctypes.c_char_p * 1)(b"serve")
        with Status() as status:
            session = tf.TF_LoadSessionFromSavedModel(
                options, None, str(folder).encode(), tags, 1, self.graph, meta_graph, status
            )
        self.session = ctypes.c_void_p(session)
        content = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
        definitions = meta_graph_pb2.MetaGraphDef.FromString(content).signature_def
        self.definitions = {
            name: definition for name, definition in definitions.items() if definition.outputs
        }

    def run(self, signature, inputs):
        """Return the outputs of a signature, by name. Several threads may call this method."""
        definition = self.definitions[signature]
        input_names = sorted(inputs)
        output_names = sorted(definition.outputs)
        ins = self._outputs(definition.inputs[name].name for name in input_names)
        outs = self._outputs(definition.outputs[name].name for name in output_names)
        tensors = [_tensor(inputs[name]) for name in input_names]
        values = (ctypes.c_void_p * len(ins))(*tensors)
        answers = (ctypes.c_void_p * len(outs))()
        try:
            with Status() as status:
                tf.TF_SessionRun(
                    self.session,
                    None,
                    ins,
                    values,
                    len(ins),
                    outs,
                    answers,
                    len(outs),
                    None,
                    0,
                    None,
                    status,
                )
            return {
                name: _array(ctypes.c_void_p(answer))
                for name, answer in zip(output_names, answers, strict=True)
            }
        finally:
            for tensor in (*values, *answers):
                if tensor:
                    tf.TF_DeleteTensor(ctypes.c_void_p(tensor))

    def _outputs(self, names):
        """Return the outputs of operations by names such as `"operation:0"`, as an array of C."""
        outputs = []
        for name in names:
            operation, _, index = name.partition(":")
            pointer = tf.TF_GraphOperationByName(self.graph, operation.encode())
            outputs.append(Output(pointer, int(index or 0)))
        return (Output * len(outputs))(*outputs)


def _tensor(array):
    array = np.ascontiguousarray(array)
    number = NUMBERS[array.dtype]
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    size = array.size * STRING_SIZE if array.dtype.kind == "O" else array.nbytes
    tensor = tf.TF_AllocateTensor(number, dims, array.ndim, ctypes.c_size_t(size))
    data = tf.TF_TensorData(ctypes.c_void_p(tensor))
    if array.dtype.kind != "O":
        ctypes.memmove(data, array.ctypes.data, array.nbytes)
        return tensor
    for i, value in enumerate(array.ravel()):
        at = ctypes.c_void_p(data + STRING_SIZE * i)
        tf.TF_StringInit(at)
        tf.TF_StringCopy(at, value, ctypes.c_size_t(len(value)))
    return tensor


def _array(tensor):
    shape = [tf.TF_Dim(tensor, i) for i in range(tf.TF_NumDims(tensor))]
    dtype, data = DTYPES[tf.TF_TensorType(tensor)], tf.TF_TensorData(tensor)
    if dtype.kind != "O":
        return (
            np.frombuffer(ctypes.string_at(data, tf.TF_TensorByteSize(tensor)), dtype)
            .reshape(shape)
            .copy()
        )
    array = np.empty(math.prod(shape), object)
    for i in range(array.size):
        at = ctypes.c_void_p(data + STRING_SIZE * i)
        array[i] = ctypes.string_at(tf.TF_StringGetDataPointer(at), tf.TF_StringGetSize(at))
    return array.reshape(shape)


def to_array(proto):
    """Return a TensorProto as an array."""
    dtype = DTYPES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if dtype.kind == "O":
        return np.array(list(proto.string_val), object).reshape(shape)
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    fields = {1: proto.float_val, 3: proto.int_val, 9: proto.int64_val, 10: proto.bool_val}
    values = list(fields[proto.dtype])
    missing = math.prod(shape) - len(values)  # the last value stands for all that follow
    return np.array(values + values[-1:] * missing, dtype).reshape(shape)


def to_proto(array):
    """Return an array as a TensorProto."""
    proto = tensor_pb2.TensorProto(dtype=NUMBERS[array.dtype])
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype.kind == "O":
        proto.string_val.extend(array.ravel())
    else:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
    return proto


def warm_up_records(folder):
    """Yield the warm-up records of a SavedModel: (signature, inputs, outputs)."""
    from tensorflow_serving.apis import prediction_log_pb2

    content = (pathlib.Path(folder) / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        log = prediction_log_pb2.PredictionLog.FromString(content[12 : 12 + length]).predict_log
        content = content[16 + length :]
        inputs = {name: to_array(value) for name, value in log.request.inputs.items()}
        outputs = {name: to_array(value) for name, value in log.response.outputs.items()}
        yield log.request.model_spec.signature_name, inputs, outputs
