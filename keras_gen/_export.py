"""Export: the signatures of a model as a SavedModel with PNG endpoints if wanted, or one of them for another runtime."""

from __future__ import annotations

import os
import pathlib
import re
import warnings
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_gen._files import PathLike
from keras_gen._typing import Endpoint

if TYPE_CHECKING:
    from keras_gen.models.base import GenerativeModel

IMAGES = ("reconstructions", "outputs")  # outputs of the signatures that are data
_SUFFIX = {"onnx": ".onnx", "litert": ".tflite"}


def endpoints(model: GenerativeModel, png: bool = False) -> dict[str, Endpoint]:
    """What a SavedModel of `model` offers: name → (function of tensors to a dictionary of tensors, input specs).

    Args:
        model: A `GenerativeModel`.
        png: Whether to offer each signature also under its name with `_bytes`, with images as PNG.

    Raises:
        ValueError: If PNG is wanted for data that are no images in [0, 1].
    """
    offered = {
        name: (_for_empty_batches(function), inputs)
        for name, (function, inputs) in model.signatures().items()
    }
    if png:
        _check_images(model)
        of_png = {
            f"{name}_bytes": _as_png(*endpoint, model.data_shape)
            for name, endpoint in offered.items()
        }
        offered |= of_png
    return offered


def export_saved_model(
    model: GenerativeModel, filepath: PathLike, png: bool = False, verbose: bool = False
) -> None:
    """Write the endpoints of `model` as a SavedModel that stores each weight once."""
    archive = keras.export.ExportArchive()
    for name, (function, inputs) in endpoints(model, png).items():
        archive.add_endpoint(name, function, inputs)
    archive.write_out(str(filepath), verbose=verbose)


def export_signature(
    model: GenerativeModel, filepath: PathLike, format: str, signature: str, **kwargs: Any
) -> None:
    """Write one signature of `model` for ONNX Runtime or LiteRT, as a file that can be run there.

    Args:
        model: A `GenerativeModel`.
        filepath: File to write, `.onnx` or `.tflite`.
        format: `"onnx"` or `"litert"`.
        signature: Name of the signature.
        **kwargs: Further arguments of `keras.Model.export`.

    Raises:
        ValueError: If there is no such signature, or the runtime has no operator for it.
    """
    filepath, offered = os.fspath(filepath), model.signatures()
    if signature not in offered:
        raise ValueError(
            f"`signature` is one of {', '.join(offered)}. Received: signature={signature!r}"
        )
    if not filepath.endswith(_SUFFIX[format]):
        raise ValueError(
            f"Expected a file named *{_SUFFIX[format]} for format {format}. Received: {filepath!r}"
        )
    function, inputs = offered[signature]
    if format == "litert":
        kwargs.setdefault("target_spec", {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]})
    problem = _known_limit(model, format, inputs)
    if not problem:
        try:
            with warnings.catch_warnings(
                action="ignore"
            ):  # of the converters, of their own affairs
                _Endpoint(signature, function).export(
                    filepath, format=format, input_signature=inputs, verbose=False, **kwargs
                )
            problem = _flaw_of_onnx(filepath, inputs) if format == "onnx" else None
        except ImportError as error:
            raise ImportError(
                f"{error} pip install 'keras_gen[onnx]' brings what ONNX needs."
            ) from error
        except Exception as error:  # each converter has its own
            operators = sorted(
                set(re.findall(r'fused\["(\w+):', str(error))) - {"StatefulPartitionedCall"}
            )
            problem = (
                f"it has no {', '.join(operators)}"
                if operators
                else str(error).strip().splitlines()[0]
            )
    if problem:
        pathlib.Path(filepath).unlink(missing_ok=True)
        raise ValueError(
            f"{format} cannot run `{signature}` of {model.name}: {problem}. Try `encode` and `decode`, and draw or score where they "
            "are run; a SavedModel runs every signature."
        )


def _known_limit(model, format, inputs):
    """Why a runtime cannot run a signature, where that is known before it is converted."""
    if any(spec.name == "seed" for spec in inputs):
        return "it has no stateless random numbers"
    if format == "litert" and any(
        layer.compute_dtype != "float32" for layer in model._flatten_layers()
    ):
        return "it computes in float32 alone, so build the model under that policy and load the weights into it"
    return None


def _flaw_of_onnx(filepath, inputs):
    """What keeps ONNX Runtime from a file that tf2onnx wrote; it writes operators that there are not, too."""
    import onnx

    onnx.checker.check_model(filepath, full_check=True)
    taken = {value.name for value in onnx.load(filepath).graph.input}
    return (
        None
        if taken == {spec.name for spec in inputs}
        else "tf2onnx could not convert a constant of it"
    )


class _Endpoint(keras.Model):
    """A signature as a Keras model, whose `export` writes files for other runtimes."""

    def __init__(self, name, function):
        super().__init__(name=name)
        self.function = function
        self.built = True

    def call(self, *inputs, training=False):
        return self.function(*inputs)


def _for_empty_batches(function):
    """`function`, which never sees an empty batch: oneDNN's convolution gives one the shape of its input (TensorFlow 2.21)."""

    def padded(*inputs):
        batch = tf.shape(inputs[0])[0]
        rows = [[0, tf.maximum(1 - batch, 0)]]
        shapes = [x.shape for x in inputs]
        checked = [
            tf.ensure_shape(x, shape) for x, shape in zip(inputs, shapes, strict=True)
        ]  # or of a wrong rank, pad would complain
        filled = [
            tf.ensure_shape(tf.pad(x, rows + [[0, 0]] * (x.shape.rank - 1)), shape)
            for x, shape in zip(checked, shapes, strict=True)
        ]
        return {name: output[:batch] for name, output in function(*filled).items()}

    return padded


def _check_images(model):
    shape, check = model.data_shape, model.data_check
    if (
        len(shape) != 3
        or shape[-1] not in (1, 3, 4)
        or (check.low < 0 and check.high < float("inf"))
    ):
        raise ValueError(
            "PNG endpoints are for images (height, width, 1, 3 or 4 channels) in [0, 1]. "
            f"Received: {model.name}, data of shape {shape} in [{check.low:g}, {check.high:g}]. Leave `png` out."
        )


def _as_png(function, inputs, shape):
    """The endpoint with images as PNG: `inputs` is `inputs_bytes`, one file a row, an output that is an image `NAME_bytes`."""
    specs = [
        tf.TensorSpec((None,), tf.string, name="inputs_bytes") if spec.name == "inputs" else spec
        for spec in inputs
    ]

    def decoded(file):
        return tf.ensure_shape(tf.io.decode_png(file, channels=shape[-1]), shape)

    def encoded(image):
        return tf.io.encode_png(
            tf.cast(tf.round(255 * tf.clip_by_value(image, 0.0, 1.0)), tf.uint8)
        )

    def endpoint(*arguments):
        floats = [
            tf.cast(
                tf.map_fn(decoded, x, fn_output_signature=tf.TensorSpec(shape, tf.uint8)),
                tf.float32,
            )
            / 255
            if x.dtype == tf.string
            else x
            for x in arguments
        ]
        outputs = function(*floats)
        return {
            **{name: value for name, value in outputs.items() if name not in IMAGES},
            **{
                f"{name}_bytes": tf.map_fn(
                    encoded, value, fn_output_signature=tf.TensorSpec((), tf.string)
                )
                for name, value in outputs.items()
                if name in IMAGES
            },
        }

    return endpoint, specs
