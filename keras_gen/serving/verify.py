"""Verification: whether a published SavedModel is complete and answers as the Keras model did."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from keras_gen._files import PathLike, damaged_files

CHECKSUMS = "assets.extra/SHA256SUMS"
"""Path of the checksums inside a SavedModel."""

_CHECK = pathlib.Path(__file__).with_name("_clean_check.py")
_TIMEOUT = 600  # seconds


@dataclasses.dataclass(frozen=True)
class Verification:
    """The result of `verify`. `print` shows it as a table."""

    folder: pathlib.Path
    """The SavedModel."""
    signatures: dict[str, dict[str, Any]]
    """Per signature: `inputs` and `outputs`, each name → dtype and shape; `difference`, the largest
    difference from the Keras model; `milliseconds`, the time of a request of three rows."""
    parameters: int
    """Number of stored values. A signature uses each of them."""
    problems: list[str]
    """One sentence per problem; empty if there is none."""

    def __str__(self) -> str:
        """Return a table of the signatures, and the number of parameters."""
        table = [("signature", "inputs", "outputs", "difference", "ms")]
        for name, row in self.signatures.items():
            if row:
                inputs = _described(row["inputs"])
                outputs = _described(row["outputs"])
                difference = f"{row['difference']:.1e}"
                table.append((name, inputs, outputs, difference, f"{row['milliseconds']:.1f}"))
        if len(table) == 1:
            return ""
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for row_of_cells in table:
            cells = (cell.ljust(width) for cell, width in zip(row_of_cells, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, f"{self.parameters:,} parameters"])


def _described(specs: dict[str, str]) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in specs.items())


def verify(folder: PathLike) -> Verification:
    """Compare a published SavedModel with its checksums and with the answers of the Keras model.

    The SavedModel runs in a separate process that cannot import keras_gen. Each signature gets its
    warm-up request four times: whole, row by row, doubled and empty. Its answers must equal those
    that the Keras model gave when it was published, within 1e-4 (absolute for numbers up to 1,
    relative for larger ones), or 1e-2 if layers compute in 16 bits. A signature must use every
    stored value. No operator may draw random numbers from a state or call Python, and the graph
    must not contain a path of the machine that wrote it.

    Args:
        folder: A version that `publish` wrote, such as `savedmodels/vae/1`. It is a program, and
            this function runs it: verify only a SavedModel that you trust.

    Returns:
        `Verification`, with an empty list of `problems` if the SavedModel is correct. A damaged
        SavedModel is not run.

    Raises:
        ValueError: If the folder does not exist.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(
            "`folder` must be the folder of a SavedModel, such as savedmodels/vae/1. "
            f"Received: {folder}, which is not a folder."
        )
    damage = damaged_files(folder, CHECKSUMS)
    if damage:
        return Verification(folder, {}, 0, damage)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-P", str(_CHECK), str(folder)]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT, env=environment
        )
    except subprocess.TimeoutExpired:
        return Verification(folder, {}, 0, [f"it did not answer within {_TIMEOUT} s"])
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return Verification(folder, {}, 0, [f"it cannot be run: {reason}"])
    return Verification(folder, **json.loads(process.stdout.splitlines()[-1]))
