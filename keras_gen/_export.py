"""Export the functions of a model as a SavedModel, or one function as an ONNX or LiteRT file.

In this module, an endpoint is a pair `(function, specs)`. The function takes tensors and returns a
dictionary of tensors. `specs` is a list with the `tf.TensorSpec` of each argument of the function.
This module does not import `keras_gen.models`.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._files import PathLike
from keras_gen._typing import Endpoint

IMAGE_OUTPUTS = ("reconstructions", "outputs")
"""Names of the outputs that contain examples, such as images. If an exported function returns PNG
files, it encodes these outputs as PNG files."""

_SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
_NOT_FLOAT32 = (
    tf.float16.as_datatype_enum,
    tf.bfloat16.as_datatype_enum,
    tf.float64.as_datatype_enum,
)


def serving_endpoints(
    signatures: Mapping[str, Endpoint],
    data_shape: tuple[int, ...],
    value_range: tuple[float, float],
    png: bool = False,
    example: np.ndarray | float = 0.0,
) -> dict[str, Endpoint]:
    """Prepare the functions of a model for a SavedModel, so that they also accept empty batches.

    An endpoint is a pair `(function, specs)`. The function takes and returns tensors. `specs` is a
    list with the `tf.TensorSpec` of each argument.

    Args:
        signatures: Endpoints of the model by name.
        data_shape: Shape of one example, such as `(28, 28, 1)`.
        value_range: Smallest and largest value of the data.
        png: Whether to add an endpoint `NAME_bytes` for each endpoint NAME. The added endpoint
            receives and returns images as PNG files. Default: False.
        example: A valid example of shape `data_shape`, or one number that is valid for all
            elements. If an endpoint receives an empty batch, it processes this example instead, and
            returns empty outputs. Default: 0.

    Returns:
        Endpoints of the SavedModel by name.

    Raises:
        ValueError: If `png` is True, but the data are not images with 1, 3 or 4 channels. Also if
            `png` is True, and `value_range` is bounded and contains negative values.
    """
    endpoints = {
        name: (_accept_empty_batches(function, specs, example), specs)
        for name, (function, specs) in signatures.items()
    }
    if not png:
        return endpoints
    _check_images(data_shape, value_range)
    for name, (function, specs) in list(endpoints.items()):
        endpoints[f"{name}_bytes"] = _with_png(function, specs, data_shape)
    return endpoints


def write_saved_model(
    endpoints: Mapping[str, Endpoint], filepath: PathLike, verbose: bool = False
) -> None:
    """Write the functions of a model as a SavedModel that stores each weight once.

    Args:
        endpoints: Dictionary from the name of each function to an endpoint. An endpoint is a pair:
            the function, and a list with the `tf.TensorSpec` of each of its arguments. A server
            calls the function `serving_default` if a request does not name a function.
        filepath: Folder to write.
        verbose: Whether to print the names of the functions and their arguments. Default: False.
    """
    archive = keras.export.ExportArchive()
    for name, (function, specs) in endpoints.items():
        archive.add_endpoint(name, function, specs)
    archive.write_out(os.fspath(filepath), verbose=verbose)


def write_signature(
    signatures: Mapping[str, Endpoint],
    signature: str,
    filepath: PathLike,
    format: str,
    model_name: str,
    **kwargs: Any,
) -> None:
    """Write one function of a model as a file for ONNX Runtime or LiteRT.

    Args:
        signatures: Dictionary from the name of each function to a pair: the function, and a list
            with the `tf.TensorSpec` of each of its arguments.
        signature: Name of the function to write.
        filepath: File to write, `*.onnx` or `*.tflite`.
        format: Format of the file, `"onnx"` or `"litert"`.
        model_name: Name of the model in error messages.
        **kwargs: Other arguments of `keras.Model.export`.

    Raises:
        ValueError: If no function has the name `signature`, or if the file has the wrong suffix.
            If ONNX Runtime or LiteRT cannot run the function, a `ValueError` is raised too, and no
            file remains at `filepath`.
        ImportError: If the packages for ONNX are not installed.
    """
    path = pathlib.Path(filepath)
    if signature not in signatures:
        raise ValueError(
            f"`signature` must be one of {', '.join(signatures)}. Received: signature={signature!r}"
        )
    if path.suffix != _SUFFIXES[format]:
        raise ValueError(
            f"`filepath` must end in {_SUFFIXES[format]} for format {format!r}. "
            f"Received: {os.fspath(filepath)!r}"
        )
    function, specs = signatures[signature]
    problem = _known_limit(format, function, specs) or _convert(
        path, format, signature, function, specs, kwargs
    )
    if problem:
        path.unlink(missing_ok=True)
        raise ValueError(
            f"{format} cannot run `{signature}` of {model_name}: {problem}. Export `encode` or "
            "`decode`, and write the rest in your own code. A SavedModel can run all functions."
        )


def _known_limit(
    format: str, function: Callable[..., Any], specs: Sequence[tf.TensorSpec]
) -> str | None:
    """Return why ONNX or LiteRT cannot run a function, or None if no reason is found.

    Only reasons that can be found before the conversion are checked.
    """
    if any(spec.name == "seed" for spec in specs):
        return f"{format} has no stateless random numbers"
    if format == "litert" and not _computes_in_float32(function, specs):
        return (
            "litert computes only in float32. Build the model under the float32 policy, and load "
            "the weights into the new model"
        )
    return None


def _computes_in_float32(function: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> bool:
    """Return whether all floating-point operators of a function use float32."""
    graph = tf.function(function).get_concrete_function(*specs).graph.as_graph_def()
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    return not any(node.attr["T"].type in _NOT_FLOAT32 for node in nodes)


def _convert(
    path: pathlib.Path,
    format: str,
    signature: str,
    function: Callable[..., Any],
    specs: Sequence[tf.TensorSpec],
    kwargs: dict[str, Any],
) -> str | None:
    """Convert a function of a model to the format `"onnx"` or `"litert"`, and write it to `path`.

    Returns:
        None if the conversion succeeded. Otherwise, a text that says why it failed.

    Raises:
        ImportError: If the packages for ONNX are not installed.
    """
    if format == "litert":
        kwargs.setdefault("target_spec", {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]})
    try:
        # The converters warn about their own internals, which users cannot change.
        with warnings.catch_warnings(action="ignore"):
            _SignatureModel(signature, function).export(
                os.fspath(path), format=format, input_signature=specs, verbose=False, **kwargs
            )
        return _flaw_of_onnx_file(path, specs) if format == "onnx" else None
    except ImportError as error:
        raise ImportError(
            f"{error} Install the packages for ONNX: pip install 'keras_gen[onnx]'."
        ) from error
    except Exception as error:  # each converter raises its own kinds of errors
        missing = set(re.findall(r'fused\["(\w+):', str(error))) - {"StatefulPartitionedCall"}
        if missing:
            return f"{format} has no {', '.join(sorted(missing))}"
        return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _flaw_of_onnx_file(path: pathlib.Path, specs: Sequence[tf.TensorSpec]) -> str | None:
    """Check the inputs of an ONNX file that the converter tf2onnx has written.

    Args:
        path: Path of the file.
        specs: The `tf.TensorSpec` of each input that the file must have.

    Returns:
        None if the inputs of the file have the same names as `specs`. Otherwise a description of
        the error.

    Raises:
        onnx.checker.ValidationError: If the file is not a valid ONNX file.
    """
    import onnx

    onnx.checker.check_model(os.fspath(path), full_check=True)
    inputs = {value.name for value in onnx.load(os.fspath(path)).graph.input}
    if inputs != {spec.name for spec in specs}:
        return "tf2onnx could not convert a constant of the function"
    return None


class _SignatureModel(keras.Model):
    """A Keras model that calls a function. `keras.Model.export` can then export the function."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__(name=name)
        self.function = function
        self.built = True

    def call(self, *inputs: tf.Tensor, training: bool = False) -> Any:
        return self.function(*inputs)


def _accept_empty_batches(
    function: Callable[..., dict[str, tf.Tensor]],
    specs: Sequence[tf.TensorSpec],
    example: np.ndarray | float,
) -> Callable[..., dict[str, tf.Tensor]]:
    """Return a version of `function` that also accepts an empty batch.

    In TensorFlow 2.21, a convolution that uses the library oneDNN returns the wrong shape for an
    empty batch. Therefore the returned function adds one row to an empty batch, and removes this
    row from the outputs.

    Args:
        function: Function that takes tensors and returns a dictionary of tensors.
        specs: The `tf.TensorSpec` of each argument of `function`.
        example: The row that is added to the argument named `inputs`. The rows that are added to
            all other arguments contain zeros.
    """

    def padded(x: tf.Tensor, spec: tf.TensorSpec, missing_rows: tf.Tensor) -> tf.Tensor:
        # For a wrong shape, the error of `ensure_shape` is easier to read than that of `concat`.
        x = tf.ensure_shape(x, spec.shape)
        row = tf.constant(example if spec.name == "inputs" else 0, x.dtype)
        added = tf.broadcast_to(row, (missing_rows, *spec.shape[1:]))
        return tf.ensure_shape(tf.concat([x, added], axis=0), spec.shape)

    def endpoint(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = tf.shape(inputs[0])[0]
        missing_rows = tf.maximum(1 - batch, 0)
        pairs = zip(inputs, specs, strict=True)
        outputs = function(*(padded(x, spec, missing_rows) for x, spec in pairs))
        return {name: output[:batch] for name, output in outputs.items()}

    return endpoint


def _check_images(data_shape: tuple[int, ...], value_range: tuple[float, float]) -> None:
    """Raise a `ValueError` if the data cannot be exported as PNG images.

    The data must have 1, 3 or 4 channels. Data whose range of values is bounded must not have
    negative values.

    Args:
        data_shape: Shape of one example.
        value_range: Smallest and largest value of the data.
    """
    low, high = value_range
    is_image = len(data_shape) == 3 and data_shape[-1] in (1, 3, 4)
    if not is_image or (low < 0 and high < math.inf):
        raise ValueError(
            "PNG endpoints need images of shape (height, width, channels), with 1, 3 or 4 channels "
            f"and values in [0, 1]. Received: data of shape {data_shape} with values in "
            f"[{low:g}, {high:g}]. Export without `png`."
        )


def _with_png(
    function: Callable[..., dict[str, tf.Tensor]],
    specs: Sequence[tf.TensorSpec],
    data_shape: tuple[int, ...],
) -> Endpoint:
    """Return a function that receives and returns images as PNG files, one file per image.

    The returned function calls `function`. The input `inputs` of `function` has the name
    `inputs_bytes` in the returned function. The names of the outputs that contain images also get
    the suffix `_bytes`.

    Args:
        function: Function that receives and returns images as arrays.
        specs: The `tf.TensorSpec` of each argument of `function`.
        data_shape: Shape of one image, `(height, width, channels)`.

    Returns:
        A pair: the function, and the `tf.TensorSpec` of each of its arguments.
    """
    specs = [
        tf.TensorSpec((None,), tf.string, name="inputs_bytes") if spec.name == "inputs" else spec
        for spec in specs
    ]

    def decode_one(file: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.io.decode_png(file, channels=data_shape[-1]), data_shape)

    def encode_one(image: tf.Tensor) -> tf.Tensor:
        pixels = tf.round(255 * tf.clip_by_value(image, 0.0, 1.0))
        return tf.io.encode_png(tf.cast(pixels, tf.uint8))

    def decode(files: tf.Tensor) -> tf.Tensor:
        spec = tf.TensorSpec(data_shape, tf.uint8)
        return tf.cast(tf.map_fn(decode_one, files, fn_output_signature=spec), tf.float32) / 255

    def encode(images: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(encode_one, images, fn_output_signature=tf.TensorSpec((), tf.string))

    def endpoint(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = function(*(decode(x) if x.dtype == tf.string else x for x in inputs))
        others = {name: value for name, value in outputs.items() if name not in IMAGE_OUTPUTS}
        images = {
            f"{name}_bytes": encode(value)
            for name, value in outputs.items()
            if name in IMAGE_OUTPUTS
        }
        return {**others, **images}

    return endpoint, specs
