"""Count the modes that a GAN covers on Stacked MNIST (1,000 modes).

    python scripts/reproduce/stacked_mnist.py --row relativistic --data-dir ~/tensorflow_datasets

An image of Stacked MNIST consists of three random digits of MNIST, one per colour channel (Metz et
al. 2017, arXiv:1611.02163). There are 1,000 modes, one per combination of three digits, and all are
equally frequent. A GAN that drops modes generates fewer. The bundled classifier reads each channel
of 26,000 samples (protocol of VEEGAN, arXiv:1705.07761). The script reports the number of modes
that occur, and the KL divergence from the frequencies of the samples to the uniform distribution.

Two rows use the same networks, batches and optimizers. `relativistic` has the relativistic pairing
loss with the penalties R1 and R2 on every fourth step (Huang et al. 2024, arXiv:2501.05441).
`plain` has the non-saturating loss without penalties. Both generate with the EMA generator. The
target is 1,000 modes with a KL divergence of at most 0.08 in three hours on two cores. To resume a
stopped training, run the same command again.
"""

import dataclasses
import pathlib
import time
from typing import Literal

import keras
import numpy as np
import results
import tensorflow as tf
import tyro

from keras_gen import Checkpoints, data
from keras_gen.data import as_arrays
from keras_gen.evaluation.features import CLASSIFIER
from keras_gen.evaluation.figures import grid
from keras_gen.runs.recipes import GANConfig, build

TABLE = "stacked_mnist"
MODES = 1000
SAMPLES = 26_000
STEPS_PER_EPOCH = 500
PLAIN = GANConfig(penalties=(), schedule="cosine")
CONFIGS = {
    "relativistic": dataclasses.replace(
        PLAIN, loss="relativistic", penalties=("r1", "r2"), penalty_weight=0.1, penalty_every=4
    ),
    "plain": PLAIN,
}
NAMES = {"relativistic": "relativistic, R1 and R2", "plain": "non-saturating, no penalty"}
# Per published model: modes, KL divergence, and the source.
PUBLISHED = {
    "DCGAN": ("99", "3.40", "arXiv:1705.07761"),
    "VEEGAN": ("150", "2.95", "arXiv:1705.07761"),
    "non-saturating, R1 and R2": ("693", "0.93", "arXiv:2501.05441"),
    "relativistic, R1 and R2": ("1,000", "0.078", "arXiv:2501.05441"),
}


@dataclasses.dataclass
class Settings:
    """Which GAN is trained, and for how long."""

    row: Literal["relativistic", "plain"]
    """Row to train. The start of this file describes both."""
    data_dir: str | None = None
    """Folder of all TFDS data sets, with MNIST."""
    steps: int = 60_000
    """Number of training steps with 64 images each."""
    seed: int = 0
    """Seed of initial weights, order of the data, and noise."""
    modes_every: int = 10
    """Interval in epochs of 500 steps between two counts of the modes."""
    checkpoints: pathlib.Path = pathlib.Path("runs")
    """Folder of the checkpoints."""


class Progress(keras.callbacks.Callback):
    """Add seconds to the logs of each epoch, and the modes and the divergence to some of them."""

    def __init__(self, every, seed):
        super().__init__()
        self.every = every
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clocks."""
        self.start = time.perf_counter()
        self.start_of_process = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        """Stop the clocks, and count the modes without them."""
        logs["seconds"] = time.perf_counter() - self.start
        logs["processor_seconds"] = time.process_time() - self.start_of_process
        logs["modes"] = logs["divergence"] = float("nan")
        if (epoch + 1) % self.every == 0:
            logs["modes"], logs["divergence"] = coverage(self.model, self.seed)


def stacked(images, batch_size, seed):
    """Return an endless data set of batches `[batch_size, 28, 28, 3]` of three random digits."""
    digits = tf.constant(images[..., 0])

    def batch(number):
        chosen = tf.random.stateless_uniform(
            (batch_size, 3), (seed, number), 0, len(images), tf.int64
        )
        return tf.transpose(tf.gather(digits, chosen), (0, 2, 3, 1))

    return tf.data.Dataset.counter().map(batch).prefetch(2)


def coverage(model, seed):
    """Return the number of modes in samples of a GAN, and the KL divergence to uniform modes."""
    samples = np.asarray(model.generate(SAMPLES, seed=seed))
    return divergence(read(samples))


def read(images):
    """Return the number from 0 to 999 that the classifier reads in the channels of each image."""
    classifier = keras.saving.load_model(CLASSIFIER, compile=False)
    digits = [
        np.argmax(classifier.predict(images[..., [channel]], batch_size=500, verbose=0), axis=-1)
        for channel in range(3)
    ]
    return 100 * digits[0] + 10 * digits[1] + digits[2]


def divergence(modes):
    """Return the number of different modes, and the KL divergence to uniform modes in nats."""
    frequencies = np.bincount(modes, minlength=MODES) / len(modes)
    positive = frequencies[frequencies > 0]
    return len(positive), float(np.sum(positive * np.log(MODES * positive)))


def main(settings: Settings):
    """Train, count the modes, and write the result, an image of samples and the table."""
    if settings.steps % STEPS_PER_EPOCH or settings.steps <= 0:
        raise SystemExit(
            f"`--steps` must be a positive multiple of {STEPS_PER_EPOCH}, the steps of an epoch. "
            f"Received: {settings.steps}."
        )
    keras.utils.set_random_seed(settings.seed)
    training, test = data.load("mnist", data_dir=settings.data_dir, seed=settings.seed)
    images, _ = as_arrays(training)
    config = dataclasses.replace(CONFIGS[settings.row], seed=settings.seed)
    model = build(config, (28, 28, 3), settings.steps)
    case = f"{settings.row}-{settings.seed}"
    callbacks = [
        Progress(settings.modes_every, settings.seed),
        Checkpoints(settings.checkpoints / f"{TABLE}-{case}"),
    ]
    history = model.fit(
        stacked(images, config.batch_size, settings.seed),
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=settings.steps // STEPS_PER_EPOCH,
        callbacks=callbacks,
        verbose=2,
    ).history

    modes, kl = coverage(model, settings.seed + 1)
    held_out = next(iter(stacked(as_arrays(test)[0], SAMPLES, settings.seed))).numpy()
    real_modes, real_kl = divergence(read(held_out))
    counts = zip(history["modes"], history["divergence"], strict=True)
    result = {
        **dataclasses.asdict(settings),
        "checkpoints": None,
        "data_dir": None,
        "modes": modes,
        "divergence": round(kl, 4),
        "modes_of_test_images": real_modes,
        "divergence_of_test_images": round(real_kl, 4),
        "curve": {
            str((epoch + 1) * STEPS_PER_EPOCH): [int(number), round(value, 4)]
            for epoch, (number, value) in enumerate(counts)
            if np.isfinite(value)
        },
        "wall_minutes": round(sum(history["seconds"]) / 60, 1),
        "processor_minutes": round(sum(history["processor_seconds"]) / 60, 1),
    }
    results.save(TABLE, case, result)
    path = results.DOCS / figure(result)
    keras.utils.save_img(path, grid(model.generate(32, seed=settings.seed), 8), scale=False)
    results.write_section("Stacked MNIST", table())


def table():
    """Return the section of `docs/results.md`."""
    found = sorted(results.load(TABLE).values(), key=lambda row: list(CONFIGS).index(row["row"]))
    lines = [
        [
            f"{NAMES[row['row']]} (keras_gen)",
            f"**{row['modes']:,}**",
            f"**{row['divergence']:.3f}**",
            f"{row['steps']:,} steps, {row['processor_minutes']:.0f} minutes of processor time",
        ]
        for row in found
    ]
    lines += [[name, *cells] for name, cells in PUBLISHED.items()]
    ours = found[0]
    reached = ours["modes"] == MODES and ours["divergence"] <= 0.08
    head = ["GAN", "modes", "KL divergence", "training or source"]
    return f"""`python scripts/reproduce/stacked_mnist.py --row ROW` trains a GAN on images whose
three colour channels are random digits of MNIST. There are 1,000 equally frequent modes. The
question is whether the GAN generates all of them.

The bundled classifier reads the digits of {SAMPLES:,} samples. The table shows how many of the
1,000 modes occur, and the KL divergence of their frequencies from the uniform distribution. More
modes and a smaller divergence are better. {SAMPLES:,} images of random test digits have
{ours["modes_of_test_images"]:,} modes and the divergence {ours["divergence_of_test_images"]:.3f}.
There is one training per row, with the DCGAN networks of `keras-gen train gan`. The published
numbers are those of other networks and other classifiers. The target is 1,000 modes with a
divergence of at most 0.08. It {"is" if reached else "is **not**"} reached.

{results.markdown(head, lines)}

The figure shows 32 samples of the first row:

![Three digits on top of each other, in red, green and blue]({figure(ours)})
"""


def figure(row):
    """Return the path of an image of samples, relative to `docs`."""
    return f"images/{TABLE}-{row['row']}-{row['seed']}.png"


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
