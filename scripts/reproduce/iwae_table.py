"""Reproduce the one-layer rows of the IWAE table on MNIST (Burda et al. 2016, table 1).

    python scripts/reproduce/iwae_table.py --row vae --data-dir ~/tensorflow_datasets

The paper is arXiv:1509.00519. The script estimates the test log-likelihood of three models: a VAE
with one sample per image (−86.76 nats in the paper), an IWAE with five samples (−85.54), and a VAE
with one prior per label (−82.32 in a public reproduction, nbip; there is no value in the paper).
The encoder has 784-200-200-50 tanh units. MNIST is binarized dynamically, and log p(x) is estimated
from 5,000 samples per image for all 10,000 test images.

The paper trains for 3,280 epochs with a batch size of 20. This script trains for fewer epochs with
a batch size of 100 and cosine decay. The budget on two cores is 90 minutes for `vae` and
`conditional`, and 170 minutes for `iwae`; the result contains the time that was needed. To resume
a stopped training, run the same command again.
"""

import dataclasses
import pathlib
import time
from typing import Literal

import keras
import numpy as np
import results
import tyro

from keras_gen import VAE, Checkpoints, data, distributions, evaluation, networks, objectives
from keras_gen.data import as_arrays

IMAGE = (28, 28, 1)
LATENTS = 50
TABLE = "iwae_table"
# Per row: its name in the table, the target of the test −log p(x), and the source of the target.
TARGETS = {
    "vae": ("VAE, k = 1", 86.76, "Burda et al. 2016"),
    "iwae": ("IWAE, k = 5", 85.54, "Burda et al. 2016"),
    "conditional": ("VAE with one prior per label, −log p(x ∣ y)", 82.32, "nbip's reproduction"),
}


@dataclasses.dataclass
class Settings:
    """Which row of the table is trained, and how."""

    row: Literal["vae", "iwae", "conditional"]
    """The VAE with one sample, the IWAE with five, or the VAE with one prior per label."""
    data_dir: str | None = None
    """Folder of all TFDS data sets, with MNIST."""
    epochs: int = 1400
    """Number of epochs of the 60,000 training images."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam, with cosine decay to 0."""
    seed: int = 0
    """Seed of initial weights, order of the data, and noise."""
    num_samples: int = 5000
    """Samples per test image for the log-likelihood."""
    checkpoints: pathlib.Path = pathlib.Path("runs")
    """Folder of the checkpoints."""


class EpochSeconds(keras.callbacks.Callback):
    """Add the seconds of an epoch to its logs, which are part of the checkpoints."""

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Add the time to the logs."""
        logs["seconds"] = time.perf_counter() - self.start


def build(settings, mean):
    """Return the VAE of a row, whose decoder initially outputs the mean of the training images."""
    keras.utils.set_random_seed(settings.seed)
    posterior = distributions.DiagonalNormal(LATENTS)
    likelihood = distributions.Bernoulli(IMAGE)
    num_classes = None
    prior = None
    if settings.row == "conditional":
        num_classes = 10
        prior = distributions.ConditionalNormal(LATENTS, num_classes=num_classes)
    wide = {"hidden": (200, 200), "activation": "tanh"}
    vae = VAE(
        networks.mlp(IMAGE, (posterior.parameter_size,), num_classes=num_classes, **wide),
        networks.mlp((LATENTS,), likelihood.parameter_shape, **wide),
        posterior,
        likelihood,
        prior,
        seed=settings.seed,
        name=settings.row,
    )
    mean = np.clip(mean, 1e-3, 1 - 1e-3)
    vae.decoder.layers[-2].bias.assign(np.log(mean / (1 - mean)).ravel())
    return vae


def main(settings: Settings):
    """Train, estimate the log-likelihood, and write the result and the table."""
    labels = settings.row == "conditional"
    train, test = data.load(
        "mnist", 100, labels, settings.data_dir, seed=settings.seed, binarize=True
    )
    grey, _ = data.load("mnist", 10_000, data_dir=settings.data_dir)
    mean = np.mean([batch.mean(axis=0) for batch in grey.as_numpy_iterator()], axis=0)
    vae = build(settings, mean)
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, settings.epochs * len(train)
    )
    objective = objectives.IWAE(5) if settings.row == "iwae" else objectives.ELBO()
    vae.compile(
        keras.optimizers.Adam(schedule),
        objective=objective,
        steps_per_execution=100,
        jit_compile=False,
    )
    folder = settings.checkpoints / f"iwae_table-{settings.row}-{settings.seed}"
    history = vae.fit(
        train, epochs=settings.epochs, callbacks=[EpochSeconds(), Checkpoints(folder)], verbose=2
    ).history

    x, y = as_arrays(test)
    start = time.perf_counter()
    estimate = evaluation.log_likelihood(vae, x, y, settings.num_samples)
    print(estimate)
    # The lower quartile, because other work of the machine slowed down some epochs.
    training_seconds = settings.epochs * float(np.quantile(history["seconds"], 0.25))
    result = {
        "row": settings.row,
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
        "training_minutes": round(training_seconds / 60, 1),
        "wall_minutes": round(sum(history["seconds"]) / 60, 1),
        "nll": round(-estimate.mean, 3),
        "standard_error_of_draws": round(estimate.standard_error, 4),
        "standard_error_of_examples": round(estimate.standard_error_of_data, 3),
        "curve": {str(draws): round(-value, 3) for draws, value in estimate.curve.items()},
        "active_units": int(np.sum(np.var(vae.encode(x, y).mean(), axis=0) > 0.01)),
        "images": len(x),
        "draws": settings.num_samples,
        "estimation_minutes": round((time.perf_counter() - start) / 60, 1),
    }
    results.save(TABLE, f"{settings.row}-{settings.seed}", result)
    results.write_section("The one-layer rows of the IWAE table", table())


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    lines = []
    for row, (name, target, source) in TARGETS.items():
        for result in found:
            if result["row"] == row:
                line = [
                    name,
                    f"**{result['nll']:.2f}**",
                    result["standard_error_of_draws"],
                    result["standard_error_of_examples"],
                    f"{target} ({source})",
                    result["active_units"],
                    result["epochs"],
                    result["training_minutes"],
                    result["wall_minutes"],
                ]
                lines.append(line)
    head = [
        "model",
        "−log p(x)",
        "± (samples)",
        "± (images)",
        "target",
        "active units of 50",
        "epochs",
        "minutes, estimated",
        "minutes, wall clock",
    ]
    num_samples = " and ".join(sorted({f"{result['draws']:,}" for result in found}))
    return f"""`python scripts/reproduce/iwae_table.py --row ROW --epochs EPOCHS` trains one row.
The question is whether the package reaches the log-likelihoods of the papers on MNIST.

The table shows −log p(x) in nats, averaged over all 10,000 test images. Lower is better. The
estimate uses {num_samples} samples of the latents per image. On average it is above −log p(x), as
in the papers. The training images are binarized again in every epoch.

There is one training per row, with one seed. ± (samples) is the standard error due to the samples
of the latents, and ± (images) is the standard error due to the choice of the test images. The
papers used 3,280 epochs with a batch size of 20. Here there are fewer epochs with a batch size of
100.

The machine also did other work. The estimated minutes are the number of epochs times the lower
quartile of the time per epoch. The planned limits were 90 minutes per row, and 170 minutes for
the IWAE.

{results.markdown(head, lines)}
"""


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
