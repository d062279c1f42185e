"""Reproduce rows of the IWAE table on MNIST (Burda et al. 2016, table 1), and a ladder VAE.

    python scripts/reproduce/iwae_table.py --row vae --data-dir ~/tensorflow_datasets

The paper is arXiv:1509.00519. The script estimates the test log-likelihood of three models with one
layer of latents: a VAE with one sample per image (−86.76 nats in the paper), an IWAE with five
samples (−85.54), and a VAE with one prior per label (−82.32 in the public reproduction of nbip; the
paper has no value). The encoder has 784-200-200-50 units, and the activation is tanh.

Further rows have several layers of latents. `two_layers_elbo` (−85.33 in the paper) and
`two_layers_iwae5` (−83.89) have two layers. The encoder of the first layer has 784-200-200 tanh
units and outputs the posterior of 100 latents. From these latents, the encoder of the second layer,
with 100-100 tanh units, computes the posterior of 50 further latents. `two_layers_dreg5` is
`two_layers_iwae5`, trained with the doubly reparameterized gradient (Tucker et al. 2019,
arXiv:1810.04152). The IWAE paper has no such row. Therefore its target is that of
`two_layers_iwae5`. `ladder5` (−81.74) is the ladder VAE of Sønderby et al. (2016, arXiv:1602.02282)
with 64, 32, 16, 8 and 4 latents, batch normalization and a KL weight that rises during the first
200 epochs.

MNIST is binarized dynamically, and log p(x) is estimated from 5,000 samples per image for all
10,000 test images. The papers train for about 2,000 to 3,280 epochs; the IWAE paper uses a batch
size of 20. This script trains for fewer epochs with a batch size of 100 and cosine decay. The
budget on two cores is 90 minutes for `vae` and `conditional`, and 170 minutes for `iwae`; the
result contains the time that was needed. To resume a stopped training, run the same command again.
"""

import dataclasses
import math
import pathlib
import time
from typing import Literal

import keras
import numpy as np
import results
import tyro

from keras_gen import (
    VAE,
    Checkpoints,
    HierarchicalVAE,
    data,
    distributions,
    evaluation,
    networks,
    objectives,
)
from keras_gen.data import as_arrays

IMAGE = (28, 28, 1)
LATENTS = 50
TABLE = "iwae_table"
# Per row: its name in the table, the target of the test −log p(x), and the source of the target.
TARGETS = {
    "vae": ("VAE, k = 1", 86.76, "Burda et al. 2016"),
    "iwae": ("IWAE, k = 5", 85.54, "Burda et al. 2016"),
    "conditional": (
        "VAE with one prior per label, −log p(x ∣ y)",
        82.32,
        "a public reproduction, nbip",
    ),
    "two_layers_elbo": ("two layers, k = 1", 85.33, "Burda et al. 2016"),
    "two_layers_iwae5": ("two layers, IWAE, k = 5", 83.89, "Burda et al. 2016"),
    "two_layers_dreg5": (
        "two layers, IWAE, k = 5, doubly reparameterized gradient",
        83.89,
        "Burda et al. 2016, with the usual gradient",
    ),
    "ladder5": ("ladder VAE, five layers", 81.74, "Sønderby et al. 2016"),
}
ONE_LAYER = ("vae", "iwae", "conditional")
SEVERAL_LAYERS = ("two_layers_elbo", "two_layers_iwae5", "two_layers_dreg5", "ladder5")
LADDER = {64: 512, 32: 256, 16: 128, 8: 64, 4: 32}  # hidden units by number of latents
WARM_UP = 200  # epochs of the ladder VAE


@dataclasses.dataclass
class Settings:
    """Which row of the table is trained, and how."""

    row: Literal[
        "vae",
        "iwae",
        "conditional",
        "two_layers_elbo",
        "two_layers_iwae5",
        "two_layers_dreg5",
        "ladder5",
    ]
    """Row to train. The start of this file describes the models."""
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
    likelihood = distributions.Bernoulli(IMAGE)
    if settings.row in SEVERAL_LAYERS:
        make = ladder if settings.row == "ladder5" else two_layers
        vae = make(likelihood, seed=settings.seed, name=settings.row)
        start_at_mean(vae.decoders[0], mean)
        return vae
    posterior = distributions.DiagonalNormal(LATENTS)
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
    start_at_mean(vae.decoder, mean)
    return vae


def start_at_mean(decoder, mean):
    """Let a decoder initially output the logits of the mean of the training images."""
    mean = np.clip(mean, 1e-3, 1 - 1e-3)
    decoder.layers[-2].bias.assign(np.log(mean / (1 - mean)).ravel())


def two_layers(likelihood, **arguments):
    """Return the model of the IWAE paper with two layers of latents."""
    posteriors = [distributions.DiagonalNormal(100), distributions.DiagonalNormal(50)]
    wide = {"hidden": (200, 200), "activation": "tanh"}
    narrow = {"hidden": (100, 100), "activation": "tanh"}
    return HierarchicalVAE(
        encoders=[networks.mlp(IMAGE, (200,), **wide), networks.mlp((100,), (100,), **narrow)],
        decoders=[networks.mlp((100,), IMAGE, **wide), networks.mlp((50,), (200,), **narrow)],
        posteriors=posteriors,
        likelihood=likelihood,
        **arguments,
    )


def ladder(likelihood, **arguments):
    """Return the ladder VAE with five layers of latents."""
    sizes = list(LADDER)
    widths = list(LADDER.values())
    encoders = [
        normalized_mlp(shape, width) for shape, width in zip([IMAGE, *widths], widths, strict=False)
    ]
    outputs = [math.prod(IMAGE), *(2 * size for size in sizes)]
    decoders = [
        normalized_mlp(size, width, output)
        for size, width, output in zip(sizes, widths, outputs, strict=False)
    ]
    images = keras.layers.Reshape(IMAGE)(decoders[0].output)
    return HierarchicalVAE(
        encoders=encoders,
        decoders=[keras.Model(decoders[0].input, images), *decoders[1:]],
        posteriors=[distributions.DiagonalNormal(size) for size in sizes],
        likelihood=likelihood,
        inference="top_down",
        **arguments,
    )


def normalized_mlp(shape, width, output=None):
    """Return two hidden layers with batch normalization, and a dense output layer if given."""
    inputs = keras.Input(shape if isinstance(shape, tuple) else (shape,))
    x = keras.layers.Flatten()(inputs)
    for _ in range(2):
        x = keras.layers.Dense(width, use_bias=False)(x)
        x = keras.layers.LeakyReLU(0.1)(keras.layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, x if output is None else keras.layers.Dense(output)(x))


def objective_of(row, steps_per_epoch):
    """Return the objective of a row."""
    if row in ("iwae", "two_layers_iwae5"):
        return objectives.IWAE(5)
    if row == "two_layers_dreg5":
        return objectives.IWAE(5, doubly_reparameterized=True)
    if row == "ladder5":
        return objectives.ELBO(objectives.LinearWarmUp(WARM_UP * steps_per_epoch))
    return objectives.ELBO()


def active_units(vae, x, y):
    """Return the number of active latents of each layer, as a text."""
    active = np.var(evaluation.latents(vae, x, y), axis=0) > 0.01
    sizes = [posterior.event_size for posterior in getattr(vae, "posteriors", [vae.posterior])]
    parts = np.split(active, np.cumsum(sizes)[:-1])
    return ", ".join(f"{part.sum()} of {len(part)}" for part in parts)


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
    vae.compile(
        keras.optimizers.Adam(schedule),
        objective=objective_of(settings.row, len(train)),
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
    # Use the lower quartile, because other work of the machine slowed down some epochs.
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
        "active_units": active_units(vae, x, y),
        "images": len(x),
        "draws": settings.num_samples,
        "estimation_minutes": round((time.perf_counter() - start) / 60, 1),
    }
    results.save(TABLE, f"{settings.row}-{settings.seed}", result)
    if settings.row in ONE_LAYER:
        results.write_section("The one-layer rows of the IWAE table", one_layer())
    else:
        results.write_section("Several layers of latents", several_layers())


def one_layer():
    """Return the section of `docs/results.md` about one layer of latents."""
    return table(ONE_LAYER)


def several_layers():
    """Return the section of `docs/results.md` about several layers of latents."""
    note = """The doubly reparameterized gradient (Tucker et al. 2019, arXiv:1810.04152) is another
estimate of the gradient of the encoders, with less noise. The objective is the same. The IWAE paper
did not use it. In Python: `objectives.IWAE(5, doubly_reparameterized=True)`.

"""
    return table(SEVERAL_LAYERS, note)


def table(rows, note=""):
    """Return the section of `docs/results.md` with some of the rows, and a paragraph `note`."""
    found = [result for result in results.load(TABLE).values() if result["row"] in rows]
    lines = []
    for row in rows:
        name, target, source = TARGETS[row]
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
        "active units",
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
papers trained for up to 3,280 epochs. Here the trainings are shorter, with a batch size of 100.
Therefore a row that does not reach its target could need more epochs.

{note}The machine also did other work. The estimated minutes are the number of epochs times the
lower quartile of the time per epoch. For one layer, the target was at most 90 minutes per row, and
170 minutes for the IWAE. A latent is active if the variance of its posterior mean over the
test images is above 0.01. In a model with several layers, the means of the layer below are given.

{results.markdown(head, lines)}
"""


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
