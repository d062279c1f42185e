"""Verification: is a published SavedModel whole, and does it answer as the Keras model did?"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from keras_gen._files import PathLike, damaged_files

SUMS = "assets.extra/SHA256SUMS"
_CHECK = pathlib.Path(__file__).with_name("_clean_check.py")
_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `verify` found; `print` it for a table."""

    folder: pathlib.Path
    """The SavedModel."""
    signatures: dict[str, dict[str, Any]]
    """Name → `inputs` and `outputs`, name → dtype and shape; `difference` from Keras; `milliseconds` of a request of three rows."""
    parameters: int
    """How many numbers are stored, each of which a signature uses."""
    problems: list[str]
    """What is wrong, one sentence each; empty if nothing is."""

    def __str__(self) -> str:
        """A table of the signatures, and the number of parameters."""
        header = ("signature", "inputs", "outputs", "difference", "ms")
        rows = [
            (
                name,
                *(
                    ", ".join(f"{key} {spec}" for key, spec in row[side].items())
                    for side in ("inputs", "outputs")
                ),
                f"{row['difference']:.1e}",
                f"{row['milliseconds']:.1f}",
            )
            for name, row in self.signatures.items()
            if row
        ]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (header, *rows)
        ]
        return "\n".join([*lines, f"{self.parameters:,} parameters"] if rows else [])


def verify(folder: PathLike) -> Verification:
    """Compare a published SavedModel with its checksums and, in a process that cannot import keras_gen, with the Keras model.

    Each signature is called with its warm-up request: whole, row by row, doubled and empty. Its answers are those that the Keras
    model gave when it was published, within 1e-4 of numbers up to 1 and relative to larger ones (1e-2 if layers compute in 16 bits).
    Each number stored is used by a signature; no operator draws from a state or calls Python; no path of the machine is in it.

    Args:
        folder: A version that `publish` wrote, such as `savedmodels/vae/1`. It is a program that will be run: trust it first.

    Returns:
        `Verification`, with an empty list of `problems` if all is well. Of a damaged folder nothing is run.

    Raises:
        ValueError: If there is no such folder.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"Expected the folder of a SavedModel, such as savedmodels/vae/1. Received: {folder}, which is none."
        )
    damage = damaged_files(folder, SUMS)
    if damage:
        return Verification(folder, {}, 0, damage)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-P", str(_CHECK), str(folder)]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return Verification(folder, {}, 0, [f"it did not answer within {_SECONDS} s"])
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return Verification(folder, {}, 0, [f"it cannot be run: {reason}"])
    return Verification(folder, **json.loads(process.stdout.splitlines()[-1]))
