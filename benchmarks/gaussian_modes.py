"""Which losses and penalties cover all modes: a ring of 8 and a grid of 25 Gaussians, five seeds each.

Prints a table and writes it, with every run, to `benchmarks/results/gaussian_modes.json`; draws the data and the samples of two
settings in `docs/images/gaussian-modes.png`.

    python benchmarks/gaussian_modes.py                 # all of it, fifty minutes on two busy cores
    python benchmarks/gaussian_modes.py --losses hinge --penalties R1 none --seeds 0

Protocol: ring of radius 2 with σ = 0.02, grid from −4 to 4 with σ = 0.05 (as VEEGAN, arXiv:1705.07761), divided by their standard
deviation. 2,500 samples of the averaged generator; a sample is of high quality within 3 σ of a mode (98.9 % of the data are); a mode is
covered by at least a tenth of its fair share of the samples, all of high quality.
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
PICTURED = [("non-saturating", "none"), ("non-saturating", "R1")]


@dataclasses.dataclass
class Settings:
    """What to run."""

    data: tuple[str, ...] = tuple(DATA)
    losses: tuple[str, ...] = tuple(LOSSES)
    penalties: tuple[str, ...] = tuple(PENALTIES)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    workers: int = 2
    """Processes at a time, each on one core."""
    output: pathlib.Path = ROOT / "benchmarks" / "results" / "gaussian_modes.json"
    picture: pathlib.Path = ROOT / "docs" / "images" / "gaussian-modes.png"


def draw(modes, scale, number, seed):
    random = np.random.default_rng(seed)
    chosen = modes[random.integers(0, len(modes), size=number)]
    return (chosen + scale * random.normal(size=chosen.shape)).astype("float32")


def measure(samples, modes, scale):
    """Modes covered and share of samples of high quality."""
    distances = np.linalg.norm(samples[:, None] - modes, axis=-1)
    nearest, good = distances.argmin(axis=1), distances.min(axis=1) < 3 * scale
    counts = np.bincount(nearest[good], minlength=len(modes))
    return int(np.sum(counts >= 0.1 * len(samples) / len(modes))), float(good.mean())


def one_thread():
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def train(data, loss, penalty, seed):
    """One run: 2,500 samples of the trained GAN."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    modes, scale, steps = DATA[data]
    hidden, schedule = (
        (128, 128, 128),
        keras.optimizers.schedules.CosineDecay(1e-3, steps, alpha=0.05),
    )
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
    gan.fit(draw(modes, scale, 128 * steps, seed), batch_size=128, verbose=0)
    return gan.generate(2500, seed=seed).numpy()


def density(points):
    """Points as an image of how many fall on each pixel."""
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=140, range=[(-1.8, 1.8)] * 2)
    return np.clip(np.log1p(counts) / np.log(8), 0, 1)[::-1, :, None]


def table(rows):
    """The rows in Markdown: fewest modes covered by any seed and mean share of high quality, bold where all modes always are."""
    lines = []
    for data in dict.fromkeys(row["data"] for row in rows):
        cells = {(row["loss"], row["penalty"]): row for row in rows if row["data"] == data}
        penalties, number = list(dict.fromkeys(penalty for _, penalty in cells)), len(DATA[data][0])
        lines += [
            "",
            f"| {data} of {number} | " + " | ".join(penalties) + " |",
            "|---" * (len(penalties) + 1) + "|",
        ]
        for loss in dict.fromkeys(loss for loss, _ in cells):
            texts = []
            for penalty in penalties:
                fewest, quality = (
                    min(cells[loss, penalty]["modes"]),
                    np.mean(cells[loss, penalty]["high_quality"]),
                )
                mark = "**" if fewest == number else ""
                texts.append(f"{mark}{fewest}, {100 * quality:.0f} %{mark}")
            lines.append(f"| {loss} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main(settings: Settings):
    """Run, print, save and draw."""
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    rows, panels = [], []
    context = multiprocessing.get_context("spawn")
    with context.Pool(settings.workers, one_thread, maxtasksperchild=30) as workers:
        cells = list(itertools.product(settings.data, settings.losses, settings.penalties))
        runs = {
            cell: [workers.apply_async(train, (*cell, seed)) for seed in settings.seeds]
            for cell in cells
        }
        print(f"{'data':5} {'loss':15} {'penalty':8} modes covered by seed   high quality")
        for (data, loss, penalty), samples in runs.items():
            modes, scale, _ = DATA[data]
            covered, quality = zip(
                *(measure(run.get(), modes, scale) for run in samples), strict=True
            )
            row = {
                "data": data,
                "loss": loss,
                "penalty": penalty,
                "modes": covered,
                "high_quality": np.round(quality, 4).tolist(),
            }
            rows.append(row)
            settings.output.write_text(
                json.dumps({"seeds": settings.seeds, "rows": rows}, indent=1) + "\n"
            )
            numbers = " ".join(f"{number:2}" for number in covered)
            print(
                f"{data:5} {loss:15} {penalty:8} {numbers} of {len(modes):2}      {np.mean(quality):.1%}",
                flush=True,
            )
            if (loss, penalty) in PICTURED:
                panels.append((data, density(samples[0].get())))
    print(table(rows))
    if len(panels) == len(DATA) * len(PICTURED):
        pictures = []
        for name, (modes, scale, _) in DATA.items():
            pictures += [
                density(draw(modes, scale, 2500, 0)),
                *(panel for data, panel in panels if data == name),
            ]
        save_grid(settings.picture, pictures, columns=3)


if __name__ == "__main__":
    main(tyro.cli(Settings))
