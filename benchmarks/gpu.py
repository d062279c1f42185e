"""Time training steps on one GPU, of keras_gen and of PyTorch (the extra `bench`).

    python benchmarks/gpu.py

keras_gen trains with `fit`, in float32 and with the policy mixed_bfloat16, each without and with
XLA. PyTorch trains in float32 and with autocast to bfloat16, each without and with `torch.compile`.
The models, batches and losses are those of `speed.py`. All competitors of a model take turns, each
in its own process. The script prints a table in Markdown, and writes all rounds to
`benchmarks/results/gpu.json`.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

from competitor import Competitor
from speed import TRAININGS, Row, machine, measure, summary

RESULT = pathlib.Path(__file__).parent / "results" / "gpu.json"
# TensorFlow would otherwise reserve all memory of the GPU, also that of the other processes.
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "0", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
NUMBER_OF_GPUS = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


@dataclasses.dataclass
class Settings:
    """What is timed."""

    models: tuple[str, ...] = ("mlp_vae", "conv_vae", "dcgan")
    """Models that are trained."""
    rounds: int = 5
    """Number of rounds."""
    steps: int = 500
    """Training steps per round; ten times as many for the MLP VAE."""
    steps_per_execution: int = 50
    """Training steps that `fit` executes per call of its graph."""
    batch_factor: int = 1
    """Factor of the batch sizes of `speed.py`. Large batches use a GPU better."""
    output: pathlib.Path = RESULT
    """File to write."""


def row(model, settings, digits):
    """Return the row of a model: its competitors by name, ours first."""
    batch_size, factor = TRAININGS[model]
    batch_size *= settings.batch_factor
    common = {"model": model, "batch_size": batch_size}
    ours = {}
    others = {}
    for policy in ("float32", "mixed_bfloat16"):
        mixed = policy != "float32"
        for compiled in (False, True):
            ours[f"keras_gen, {policy}{', XLA' if compiled else ''}"] = Competitor(
                "steps_keras_gen:fit",
                ENVIRONMENT,
                policy=policy,
                jit_compile=compiled,
                steps_per_execution=settings.steps_per_execution,
                **common,
            )
            name = f"PyTorch, {'bfloat16' if mixed else policy}"
            others[f"{name}{', torch.compile' if compiled else ''}"] = Competitor(
                "steps_torch:loop",
                ENVIRONMENT,
                digits=digits,
                compiled=compiled,
                device="cuda",
                mixed=mixed,
                **common,
            )
    return Row(
        f"step of {batch_size}",
        {**ours, **others},
        ours=len(ours),
        amount=factor * settings.steps,
        is_training=True,
    )


def table(results):
    """Return the medians in milliseconds as a table in Markdown, one column per model."""
    models = list(results)
    names = [name for result in results.values() for name in result["medians"]]
    lines = ["| | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    for name in dict.fromkeys(names):
        medians = [results[model]["medians"].get(name) for model in models]
        cells = ["" if median is None else f"{median:.2f}" for median in medians]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(settings: Settings):
    """Time all models, print the table and write the rounds."""
    found = subprocess.run(
        [sys.executable, "-c", NUMBER_OF_GPUS], capture_output=True, text=True, check=True
    ).stdout
    if int(found) == 0:
        raise SystemExit(
            "Expected a GPU. Received: TensorFlow finds none. Install tensorflow[and-cuda] on a "
            "machine with an NVIDIA GPU. For CPUs, run benchmarks/speed.py."
        )
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        preparation = Competitor("around_training:prepared", folder=pathlib.Path(folder))
        if preparation.start(threads=2):
            raise ImportError("Expected keras_gen to be installed.")
        preparation.stop()
        results = {"machine": machine(threads=2), "rows": {}}
        for model in settings.models:
            print(model, file=sys.stderr, flush=True)
            of_model = row(model, settings, pathlib.Path(folder) / "digits.npy")
            times, missing = measure(of_model, settings.rounds, threads=2)
            results["rows"][model] = summary(of_model, times, missing)
            settings.output.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results["rows"]))


if __name__ == "__main__":
    import tyro  # not at the top, because the processes of the competitors import this file, too

    main(tyro.cli(Settings, description=__doc__))
