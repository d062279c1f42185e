"""Measure the networks of images: parameters, memory and milliseconds per training step.

    python benchmarks/networks.py

The benchmark trains the VAE and the GAN of the command line with random images of several sizes.
The GAN has no penalties and no EMA generator. The benchmark measures each type of network in a
process of its own, one after the other, so that large images fit into the memory. For comparison,
the networks `dcgan 0.1.0` halve the height and the width of the image twice, whatever its size, as
in version 0.1.0. The peak memory is that of the process. It contains about 0.5 GiB for TensorFlow.

The results are written to `benchmarks/results/networks.json`. The table is written into
`docs/choosing.md`, between the two lines with the comments `networks.py`.
"""

import dataclasses
import json
import pathlib
import statistics

from competitor import Competitor

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "choosing.md"
BEGIN = "<!-- networks.py: begin -->\n"
END = "<!-- networks.py: end -->\n"
GAN = {"kind": "gan", "penalties": (), "ema_momentum": None}
KINDS = {
    ("VAE", "mlp"): {"kind": "vae", "network": "mlp"},
    ("VAE", "conv"): {"kind": "vae", "network": "conv"},
    ("VAE", "residual"): {"kind": "vae", "network": "residual"},
    ("GAN", "dcgan 0.1.0"): {**GAN, "network": "dcgan", "filters": (64, 128)},
    ("GAN", "dcgan"): {**GAN, "network": "dcgan"},
    ("GAN", "residual"): {**GAN, "network": "residual"},
}
"""The arguments of `training`, by model and type of network."""


@dataclasses.dataclass
class Settings:
    """Which sizes are measured, and how long."""

    sizes: tuple[int, ...] = (28, 32, 64, 128, 256)
    """Heights and widths of the images in pixels. Images of 28 pixels are grey."""
    batch_size: int = 64
    """Images per training step."""
    rounds: int = 3
    """Number of rounds, after one round for warm-up."""
    steps: int = 5
    """Training steps per round."""
    threads: int = 2
    """Threads of each process."""
    quick: bool = False
    """Measure one step of 8 images of 28 and 32 pixels, and write no file."""

    def __post_init__(self):
        """Replace the other settings if `quick` is True."""
        if self.quick:
            self.sizes = (28, 32)
            self.batch_size = 8
            self.rounds = 1
            self.steps = 1


def training(kind, size, batch_size, **settings):
    """Return a function that trains for a number of steps on random images."""
    import keras
    import numpy as np

    from keras_gen.runs import RECIPES
    from keras_gen.runs.recipes import build

    keras.utils.set_random_seed(0)
    image = (size, size, 1 if size == 28 else 3)
    x = np.random.default_rng(0).random((batch_size, *image), np.float32)
    model = build(RECIPES[kind].config(**settings), image, steps=1000)
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)

    def train(steps):
        for _ in range(steps):
            model.train_on_batch(x)
        return {"parameters": parameters}

    return train


def measure(size, settings):
    """Return for each entry of `KINDS` the parameters, the memory and the time of a step."""
    rows = []
    for (model, network), arguments in KINDS.items():
        arguments = {**arguments, "size": size, "batch_size": settings.batch_size}
        train = Competitor("networks:training", **arguments)
        if train.start(settings.threads):
            raise ImportError("Expected keras_gen to be installed.")
        answers = [train(settings.steps) for _ in range(1 + settings.rounds)]
        train.stop()
        seconds = statistics.median(answer["seconds"] for answer in answers[1:])
        rows.append(
            {
                "size": size,
                "model": model,
                "network": network,
                "parameters": answers[-1]["parameters"],
                "peak_gib": round(answers[-1]["memory"] / 2**30, 2),
                "milliseconds": round(1000 * seconds / settings.steps, 1),
            }
        )
    return rows


def table(rows):
    """Return the results as a table in Markdown, with one row per model and type of network."""
    sizes = sorted({row["size"] for row in rows})
    lines = [
        "| | | " + " | ".join(f"{size}×{size}" for size in sizes) + " |",
        "|---" * (2 + len(sizes)) + "|",
    ]
    for model, network in KINDS:
        cells = [
            f"{row['parameters'] / 1e6:.2f} M, {row['peak_gib']:.1f} GiB, "
            f"{row['milliseconds']:,.0f} ms"
            for row in rows
            if (row["model"], row["network"]) == (model, network)
        ]
        lines.append(f"| {model} | {network} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(settings: Settings):
    """Measure, print and write."""
    rows = []
    for size in settings.sizes:
        rows += measure(size, settings)
        print(table([row for row in rows if row["size"] == size]), flush=True)
    if settings.quick:
        return
    path = ROOT / "benchmarks" / "results" / "networks.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")


if __name__ == "__main__":
    import tyro  # not at the top, because the processes that train import this file, too

    main(tyro.cli(Settings, description=__doc__))
