"""Verify that a published SavedModel is complete and gives the same answers as the Keras model."""

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
    """The result of `verify`. `print` shows a table of all signatures."""

    folder: pathlib.Path
    """Folder of the SavedModel."""
    signatures: dict[str, dict[str, Any]]
    """Dictionary from the name of a signature to its results. A signature is a function that the
    server offers. The results are a dictionary with four keys. `inputs` and `outputs` are
    dictionaries from a name to the dtype and shape as text. `difference` is the largest difference
    between an answer of the SavedModel and the answer of the Keras model. `milliseconds` is the
    median time of a request with three rows. If the outputs of a signature do not have the expected
    names, the dictionary of its results is empty."""
    parameters: int
    """Number of parameters, summed over all weights that the SavedModel stores. 0 if the SavedModel
    was not run, or if running it failed."""
    problems: list[str]
    """One sentence per problem. The list is empty if the SavedModel is correct."""

    def __str__(self) -> str:
        """Return a table of the signatures, and the number of parameters below the table.

        If no signature could be checked, the text is empty.
        """
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
    """Check that a published SavedModel is undamaged, and gives the outputs of the Keras model.

    The SavedModel runs in a separate process that cannot import keras_gen. A signature is a
    function that the server offers. For each signature, `publish` stored an input with three rows,
    and the outputs that the Keras model computes from this input. `verify` calls each signature
    with the three rows together, with each row alone, with six rows (each row twice), and with no
    row. The outputs must equal the outputs of the Keras model. The largest allowed difference is
    1e-4, or 1e-2 if any layer computes in 16 bits. For numbers above 1, the difference is relative.
    The pixels of PNG files may differ by a further 1/255.

    The function also checks the TensorFlow graph. Each stored weight must be used by a signature.
    No operator may call Python. No operator may use a random generator with a state, because then
    equal requests would get different answers. The graph must not contain an absolute file path.

    Args:
        folder: Folder of a version that `publish` wrote, such as `savedmodels/vae/1`. A SavedModel
            is a program, and this function runs the program. Verify only a SavedModel that you
            trust.

    Returns:
        A `Verification`. Its list `problems` is empty if the SavedModel is correct. If a file is
        missing or damaged, the SavedModel is not run. If the check takes more than 600 seconds, it
        is stopped, which is also a problem.

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
        return Verification(folder, {}, 0, [f"the check did not end within {_TIMEOUT} s"])
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return Verification(folder, {}, 0, [f"the SavedModel cannot be run: {reason}"])
    return Verification(folder, **json.loads(process.stdout.splitlines()[-1]))
