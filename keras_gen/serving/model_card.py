"""The model card: a Markdown file that is published with a model."""

import datetime
import inspect
import json
import pathlib
import platform
from typing import Any

import keras
import numpy as np
import yaml

from keras_gen._files import PathLike
from keras_gen._versions import versions
from keras_gen.models.base import GenerativeModel
from keras_gen.serving.warm_up import Exchanges

CARD = "assets.extra/MODEL_CARD.md"
"""Path of the model card inside the folder of a SavedModel."""


def write_card(
    model: GenerativeModel,
    folder: PathLike,
    name: str,
    version: str,
    exchanges: Exchanges,
    training: str = "",
) -> None:
    """Write a model card that describes a model, its signatures and its training.

    Args:
        model: The model that was exported.
        folder: Folder of the SavedModel.
        name: Name of the model in the server.
        version: Version of the model in the server.
        exchanges: Dictionary from the name of each signature to `(request, answer)`, as
            `write_records` returns it.
        training: Markdown text for the section "Training". Default: no text, and no such section.
    """
    own, *stack = (f"{package} {release}" for package, release in versions().items())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    summary = (inspect.getdoc(type(model)) or type(model).__name__).splitlines()[0]
    parts = yaml.safe_dump(_parts(model), sort_keys=False).strip()
    sections = [
        f"# {name}, version {version}",
        summary,
        f"Published {today} by {own} ({', '.join(stack)}, Python {platform.python_version()}).",
        f"## Signatures\n\n{_signature_table(exchanges)}",
        "A batch may have any number of rows, including none. `keras-gen verify` compares the "
        "answers of every signature with the answers of the Keras model.",
    ]
    if "generate" in exchanges:
        sections.append(_generate_example(name, exchanges))
    sections.append(f"## Model\n\n```yaml\n{parts}\n```")
    if training:
        sections.append(f"## Training\n\n{training.strip()}")
    sections.append(
        "## Limits\n\nA SavedModel is a program: run it only if you trust its author. "
        "Generated samples are not observations."
    )
    path = pathlib.Path(folder) / CARD
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join(sections) + "\n")


def _signature_table(exchanges: Exchanges) -> str:
    """Return a Markdown table of the inputs and outputs of each signature."""
    rows = ["| signature | inputs | outputs |", "|---|---|---|"]
    for signature, (inputs, outputs) in exchanges.items():
        rows.append(f"| `{signature}` | {_described(inputs)} | {_described(outputs)} |")
    return "\n".join(rows)


def _described(tensors: dict[str, np.ndarray]) -> str:
    """Return the name, dtype and shape of each array as Markdown."""
    described = []
    for name, array in tensors.items():
        dtype = "string" if array.dtype == object else array.dtype.name
        shape = ", ".join(["batch", *map(str, array.shape[1:])])
        described.append(f"`{name}` {dtype} [{shape}]")
    return ", ".join(described)


def _generate_example(name: str, exchanges: Exchanges) -> str:
    """Return Markdown text about the signature `generate`, with an example request."""
    inputs, _ = exchanges["generate"]
    request = {
        "inputs": {key: array.tolist() for key, array in inputs.items()},
        "signature_name": "generate",
    }
    return (
        "For the same `seed`, `generate` always returns the same row. The other rows of the batch "
        "do not matter.\n\n"
        f"    curl -d '{json.dumps(request)}' http://localhost:8501/v1/models/{name}:predict"
    )


def _parts(model: GenerativeModel) -> dict[str, Any]:
    """Return a short description of each constructor argument of a model."""
    described: dict[str, Any] = {
        "class": type(model).__name__,
        "parameters": int(model.count_params()),
        "data_shape": list(model.data_shape),
    }
    for argument in model.get_config():
        value = getattr(model, argument, None)
        if value is not None and argument not in ("dtype", "name", "trainable"):
            described[argument] = _in_a_word(value)
    return described


def _in_a_word(value: Any) -> int | float | str:
    """Return a number or a text unchanged. Return a short description of any other value."""
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, keras.Model):
        return f"{value.name}, {value.count_params()} parameters"
    return str(value)
