"""Compare how many modes each loss and penalty of a GAN covers.

The data are a ring of 8 and a grid of 25 Gaussians, with five seeds each. The benchmark prints a
table and writes it, with every run, to `benchmarks/results/gaussian_modes.json`. It plots the data
and the samples of two settings in `docs/images/gaussian-modes.png`.

    python benchmarks/gaussian_modes.py                 # everything: 50 minutes on two busy cores
    python benchmarks/gaussian_modes.py --losses hinge --penalties R1 none --seeds 0

Protocol: The ring has radius 2 and σ = 0.02, the grid reaches from −4 to 4 with σ = 0.05 (as in
VEEGAN, arXiv:1705.07761). Both are divided by their standard deviation. The EMA generator generates
2,500 samples. A sample is of high quality if it is within 3 σ of a mode. This is true for 98.9 % of
the data. With m modes, a perfect generator has about 2,500 / m samples per mode. A mode is covered
if it has at least a tenth of this number of high-quality samples.
"""

import dataclasses
import itertools
import json
import multiprocessing
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
import tyro

from keras_gen import GAN, losses, networks
from keras_gen.evaluation.figures import save_grid

ROOT = pathlib.Path(__file__).parents[1]
RING = np.stack([np.cos(np.pi * np.arange(8) / 4), np.sin(np.pi * np.arange(8) / 4)], axis=1)
GRID = np.array(list(itertools.product(range(-4, 5, 2), repeat=2)), float)
DATA = {
    "ring": (2 * RING / 2**0.5, 0.02 / 2**0.5, 2000),
    "grid": (GRID / 8**0.5, 0.05 / 8**0.5, 6000),
}  # modes, σ, training steps
LOSSES = {
    "non-saturating": losses.NonSaturating(),
    "minimax": losses.Minimax(),
    "least squares": losses.LeastSquares(),
    "hinge": losses.Hinge(),
    "Wasserstein": losses.Wasserstein(),
    "relativistic": losses.RelativisticPairing(),
}
PENALTIES = {
    "none": [],
    "WGAN-GP": [losses.GradientPenalty(0.1)],
    "DRAGAN": [losses.DRAGAN(0.1)],
    "R1": [losses.R1(0.1)],
    "R2": [losses.R2(0.1)],
}
PLOTTED = [("non-saturating", "none"), ("non-saturating", "R1")]


@dataclasses.dataclass
class Settings:
    """Which combinations are trained."""

    data: tuple[str, ...] = tuple(DATA)
    """Names of distributions of the data."""
    losses: tuple[str, ...] = tuple(LOSSES)
    """Names of losses."""
    penalties: tuple[str, ...] = tuple(PENALTIES)
    """Names of penalties."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of each combination."""
    workers: int = 2
    """Number of parallel processes, each on one core."""
    output: pathlib.Path = ROOT / "benchmarks" / "results" / "gaussian_modes.json"
    """File to write the results to."""
    figure: pathlib.Path = ROOT / "docs" / "images" / "gaussian-modes.png"
    """File to write the plot to."""


def sample_data(modes, scale, number, seed):
    """Return samples of a mixture of equal Gaussians with the same standard deviation."""
    random = np.random.default_rng(seed)
    chosen = modes[random.integers(0, len(modes), size=number)]
    return (chosen + scale * random.normal(size=chosen.shape)).astype("float32")


def measure(samples, modes, scale):
    """Return the number of covered modes, and the share of high-quality samples."""
    distances = np.linalg.norm(samples[:, None] - modes, axis=-1)
    nearest = distances.argmin(axis=1)
    good = distances.min(axis=1) < 3 * scale
    counts = np.bincount(nearest[good], minlength=len(modes))
    return int(np.sum(counts >= 0.1 * len(samples) / len(modes))), float(good.mean())


def one_thread():
    """Let TensorFlow use one thread."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def train(data, loss, penalty, seed):
    """Train a GAN once, and return 2,500 samples of it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    modes, scale, steps = DATA[data]
    hidden = (128, 128, 128)
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, steps, alpha=0.05)
    gan = GAN(
        networks.mlp((2,), (2,), hidden),
        networks.mlp((2,), (1,), hidden, activation="leaky_relu"),
        seed=seed,
    )
    gan.compile(
        keras.optimizers.Adam(schedule, 0.5, 0.99),
        keras.optimizers.Adam(schedule, 0.5, 0.99),
        loss=LOSSES[loss],
        penalties=PENALTIES[penalty],
        ema_momentum=0.99,
        steps_per_execution=50,
        jit_compile=False,
    )
    gan.fit(sample_data(modes, scale, 128 * steps, seed), batch_size=128, verbose=0)
    return gan.generate(2500, seed=seed).numpy()


def density_image(points):
    """Return an image whose pixels show how many points are in them, on a logarithmic scale."""
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=140, range=[(-1.8, 1.8)] * 2)
    return np.clip(np.log1p(counts) / np.log(8), 0, 1)[::-1, :, None]


def table(rows):
    """Return one Markdown table per distribution of the data.

    A cell has the minimum number of covered modes over the seeds, and the mean share of
    high-quality samples. It is bold if all modes are covered with every seed.
    """
    lines = []
    for data in dict.fromkeys(row["data"] for row in rows):
        cells = {(row["loss"], row["penalty"]): row for row in rows if row["data"] == data}
        penalties = list(dict.fromkeys(penalty for _, penalty in cells))
        num_modes = len(DATA[data][0])
        lines.append("")
        lines.append(f"| {data} of {num_modes} | " + " | ".join(penalties) + " |")
        lines.append("|---" * (len(penalties) + 1) + "|")
        for loss in dict.fromkeys(loss for loss, _ in cells):
            texts = []
            for penalty in penalties:
                fewest = min(cells[loss, penalty]["modes"])
                quality = np.mean(cells[loss, penalty]["high_quality"])
                bold = "**" if fewest == num_modes else ""
                texts.append(f"{bold}{fewest}, {100 * quality:.0f} %{bold}")
            lines.append(f"| {loss} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main(settings: Settings):
    """Train, print and write the results, and plot the samples."""
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    panels = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(settings.workers, one_thread, maxtasksperchild=30) as workers:
        runs = {}
        for cell in itertools.product(settings.data, settings.losses, settings.penalties):
            runs[cell] = [workers.apply_async(train, (*cell, seed)) for seed in settings.seeds]
        print(f"{'data':5} {'loss':15} {'penalty':8} modes covered by seed   high quality")
        for (data, loss, penalty), samples in runs.items():
            modes, scale, _ = DATA[data]
            measured = [measure(run.get(), modes, scale) for run in samples]
            covered = [number for number, _ in measured]
            quality = [share for _, share in measured]
            row = {
                "data": data,
                "loss": loss,
                "penalty": penalty,
                "modes": covered,
                "high_quality": np.round(quality, 4).tolist(),
            }
            rows.append(row)
            result = {"seeds": settings.seeds, "rows": rows}
            settings.output.write_text(json.dumps(result, indent=1) + "\n")
            numbers = " ".join(f"{number:2}" for number in covered)
            print(
                f"{data:5} {loss:15} {penalty:8} {numbers} of {len(modes):2}"
                f"      {np.mean(quality):.1%}",
                flush=True,
            )
            if (loss, penalty) in PLOTTED:
                panels.append((data, density_image(samples[0].get())))
    print(table(rows))
    if len(panels) == len(DATA) * len(PLOTTED):
        images = []
        for name, (modes, scale, _) in DATA.items():
            images.append(density_image(sample_data(modes, scale, 2500, 0)))
            images.extend(panel for data, panel in panels if data == name)
        save_grid(settings.figure, images, columns=3)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
