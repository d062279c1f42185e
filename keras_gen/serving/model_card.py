"""Write the model card: a Markdown file that is published with a model and describes the model."""

import datetime
import inspect
import json
import pathlib
import platform
import urllib.parse
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import yaml

from keras_gen._columns import Column, modeled_columns
from keras_gen._export_columns import tensor_names
from keras_gen._files import PathLike
from keras_gen._versions import versions
from keras_gen.models.base import GenerativeModel
from keras_gen.serving.warm_up import Exchanges

CARD = "assets.extra/MODEL_CARD.md"
"""Path of the model card inside the folder of a SavedModel."""

_SHOWN_CATEGORIES = 100  # number of categories that a model card shows per column


def write_card(
    model: GenerativeModel,
    folder: PathLike,
    name: str,
    version: str,
    exchanges: Exchanges,
    training: str = "",
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a model card that describes a model, its signatures and its training.

    A signature is a function that the server offers.

    Args:
        model: The model that was exported.
        folder: Folder of the SavedModel.
        name: Name of the model in the server.
        version: Version of the model in the server.
        exchanges: Dictionary from the name of each signature to `(request, answer)`: an example
            request, and the answer of the model to this request. Both are dictionaries of arrays.
        training: Markdown text for the section "Training". Default: the card has no such section.
        class_names: Name of each class, for the section "Classes". Default: the card has no such
            section.
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
    if model.columns:
        sections.append(_columns_section(model.columns, name, exchanges))
    if class_names:
        rows = [f"| {label} | {_in_a_cell(text)} |" for label, text in enumerate(class_names)]
        table = "\n".join(["| `condition` | class |", "|---|---|", *rows])
        sections.append(f"## Classes\n\n{table}")
    sections.append(f"## Model\n\n```yaml\n{parts}\n```")
    if training:
        sections.append(f"## Training\n\n{training.strip()}")
    sections.append(
        "## Limits\n\nA SavedModel is a program: run it only if you trust its author. "
        "Generated samples are not observations."
    )
    path = pathlib.Path(folder) / CARD
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


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
    """Return Markdown text that explains the signature `generate` and shows an example request."""
    inputs, _ = exchanges["generate"]
    request = {
        "inputs": {key: array.tolist() for key, array in inputs.items()},
        "signature_name": "generate",
    }
    return (
        "For the same `seed`, `generate` always returns the same row. The other rows of the batch "
        "do not matter.\n\n"
        f"    curl -d '{json.dumps(request)}' {_url(name)}"
    )


def _columns_section(columns: Sequence[Column], name: str, exchanges: Exchanges) -> str:
    """Return Markdown text that describes the columns of a table and shows an example request.

    Args:
        columns: All columns of the table.
        name: Name of the model in the server.
        exchanges: Dictionary from the name of each signature to `(request, answer)`: an example
            request, and the answer of the model to this request.
    """
    modeled = modeled_columns(columns)
    rows = ["| column | input | kind | values of the training rows | missing |", "|---" * 5 + "|"]
    for column, tensor in zip(modeled, tensor_names(modeled), strict=True):
        cells = (column.name, f"`{tensor}`", column.kind, _values(column), str(column.missing))
        rows.append(f"| {' | '.join(map(_in_a_cell, cells))} |")
    parts = ["## Columns", "\n".join(rows)]
    excluded = [
        f"{column.name} ({column.kind}{' ' if column.categories else ''}{_values(column)})"
        for column in columns
        if not column.modeled
    ]
    if excluded:
        parts.append(f"These columns are not part of the model: {', '.join(excluded)}.")
    parts += [
        "The column `input` has the names in requests and answers. `missing` is the number of "
        "missing entries in the table. `per_feature` has one value per column, in this order.",
        "Send NaN for a missing number, and an empty string for a missing text. In JSON, write NaN "
        "without quotation marks. The server refuses `null`, and it refuses numbers of 16777216 or "
        "more without a decimal point, so write 20000000.0.",
        "A category that is not in the table above is an error. Its message names the column, the "
        "value, and the row, counted from 0. An invalid number is such an error too. Only "
        "`score_columns` accepts an invalid number: the score of the row is infinite.",
    ]
    inputs, _ = exchanges["score_columns"]
    complete = {key: _json_value(array[0]) for key, array in inputs.items()}
    first = tensor_names(modeled)[0]
    incomplete = {**complete, first: "" if isinstance(complete[first], str) else float("nan")}
    request = {"signature_name": "score_columns", "instances": [complete, incomplete]}
    # In a shell, an apostrophe would end the argument.
    text = json.dumps(request, ensure_ascii=False).replace("'", "\\u0027")
    parts.append(
        f"In the second row of this request, `{first}` is missing:\n\n"
        f"    curl -d '{text}' {_url(name)}"
    )
    return "\n\n".join(parts)


def _values(column: Column) -> str:
    """Return text with the range of a column of numbers, or the categories of any other column.

    If there are more than 100 categories, the text contains the first 100 and says how many follow.
    """
    if column.minimum is not None and column.maximum is not None:
        return f"{column.minimum:.10g} … {column.maximum:.10g}"
    more = len(column.categories) - _SHOWN_CATEGORIES
    shown = ", ".join(str(value) for value in column.categories[:_SHOWN_CATEGORIES])
    return f"{shown}, and {more} more" if more > 0 else shown


def _json_value(value: Any) -> Any:
    """Convert an element of an array to a text or a number for a JSON request.

    A float32 number is rounded to its shortest decimal form, such as 0.1, not 0.10000000149.
    """
    if isinstance(value, bytes):
        return value.decode()
    return float(str(value)) if isinstance(value, np.floating) else value.item()


def _url(name: str) -> str:
    """Return the address for requests to a model, on the default port of a local server."""
    return f"http://localhost:8501/v1/models/{urllib.parse.quote(name)}:predict"


def _in_a_cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table, and replace line breaks by spaces."""
    return " ".join(text.replace("|", "\\|").split())


def _parts(model: GenerativeModel) -> dict[str, Any]:
    """Return the content of the section "Model" of the model card.

    The section contains the class of the model, its number of parameters, the shape of an example,
    and the arguments of the model's constructor, such as the encoder of a VAE.
    """
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
    """Return a short description of an argument of a model, for the model card.

    A number or a text is returned unchanged.
    """
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, keras.Model):
        return f"{value.name}, {value.count_params()} parameters"
    if getattr(value, "columns", ()):  # the section "Columns" describes them
        return f"{type(value).__name__}, {len(modeled_columns(value.columns))} columns"
    return str(value)
