"""Compare our VQ-VAE with that of the keras.io example, and its samples with those of a VAE.

    python scripts/reproduce/vq_vae.py --data-dir ~/tensorflow_datasets

The paper is van den Oord et al. 2017, arXiv:1711.00937. The script trains three models on grey
images of MNIST:

- our vector-quantized autoencoder, and then its prior, a transformer over the codes.
- the VQ-VAE of keras.io/examples/generative/vq_vae, written by hand below. It has the same networks
  and the same number of codes. However, its codebook is trained by the gradient, and a codebook
  vector that is rarely used is not replaced.
- a convolutional VAE.

Our autoencoder and that of keras.io are trained for `minutes`. The VAE is trained for
`minutes + prior_minutes`, as long as our autoencoder and its prior. Minutes are minutes of CPU
time. The targets are that a classifier reads at least 80 % of our samples as a digit with a
confidence above 0.9, and that the FID of our samples is below that of the VAE.
"""

import dataclasses
import math
import time

import keras
import numpy as np
import results
import tensorflow as tf
import tyro
from keras import layers, ops

from keras_gen import VAE, VectorQuantizedAutoencoder, data, distributions, evaluation, networks
from keras_gen.data import as_arrays
from keras_gen.evaluation.features import CLASSIFIER

IMAGE = (28, 28, 1)
TABLE = "vq_vae"
NAMES = {"vq_vae": "VQ-VAE of keras_gen", "keras_io": "VQ-VAE of keras.io", "vae": "VAE"}
VECTOR_SIZE = 16
NUM_CODES = 128
BATCH_SIZE = 128
CONFIDENT = 0.9
SAMPLES = 10_000


@dataclasses.dataclass
class Settings:
    """Which models are trained, and for how long."""

    data_dir: str | None = None
    """Folder of all TFDS data sets, with MNIST."""
    seeds: int = 3
    """Number of trainings per model."""
    minutes: float = 6.0
    """CPU minutes of the training of each VQ-VAE."""
    prior_minutes: float = 12.0
    """CPU minutes of the training of the prior."""
    width: int = 64
    """Features per position of the transformer."""
    depth: int = 3
    """Number of blocks of the transformer."""


class Budget(keras.callbacks.Callback):
    """Stop training after a time. The learning rate falls to 0 by cosine decay if it is given."""

    def __init__(self, minutes, learning_rate=None):
        super().__init__()
        self.seconds = 60 * minutes
        self.learning_rate = learning_rate
        self.start = time.process_time()

    @property
    def share(self):
        """The used fraction of the time."""
        return min((time.process_time() - self.start) / self.seconds, 1.0)

    def on_train_batch_begin(self, batch, logs=None):
        """Set the learning rate."""
        if self.learning_rate is not None:
            factor = 0.5 * (1 + math.cos(math.pi * self.share))
            self.model.optimizer.learning_rate.assign(self.learning_rate * factor)

    def on_train_batch_end(self, batch, logs=None):
        """Stop at the end of the time."""
        if self.share == 1.0:
            self.model.stop_training = True


# === The models ===


def our_vq_vae(seed):
    """Return our VQ-VAE, which minimizes the squared error."""
    model = VectorQuantizedAutoencoder(
        networks.conv_grid_encoder(IMAGE, VECTOR_SIZE, filters=(32, 64)),
        networks.conv_grid_decoder((7, 7, VECTOR_SIZE), IMAGE, filters=(64, 32)),
        networks.VectorQuantizer(NUM_CODES),
        distributions.Normal(IMAGE, scale="optimal"),
        seed=seed,
    )
    model.compile("adam", jit_compile=False)
    return model


class ExampleQuantizer(layers.Layer):
    """The quantizer of the keras.io example."""

    def __init__(self, beta=0.25):
        super().__init__()
        self.beta = beta

    def build(self, input_shape):
        """Make the codebook."""
        self.embeddings = self.add_weight(
            (input_shape[-1], NUM_CODES), keras.initializers.RandomUniform(-0.05, 0.05)
        )

    def codes(self, x):
        """Return the codes of latent vectors, `[n]`."""
        flat = ops.reshape(x, (-1, x.shape[-1]))
        distances = (
            ops.sum(flat**2, axis=1, keepdims=True)
            + ops.sum(self.embeddings**2, axis=0)
            - 2 * ops.matmul(flat, self.embeddings)
        )
        return ops.argmin(distances, axis=1)

    def call(self, x):
        """Return the nearest vectors, and add the two losses."""
        one_hot = ops.one_hot(self.codes(x), NUM_CODES)
        quantized = ops.reshape(ops.matmul(one_hot, ops.transpose(self.embeddings)), ops.shape(x))
        self.add_loss(self.beta * ops.mean((ops.stop_gradient(quantized) - x) ** 2))
        self.add_loss(ops.mean((quantized - ops.stop_gradient(x)) ** 2))
        return x + ops.stop_gradient(quantized - x)


def example_vq_vae(variance):
    """Return the VQ-VAE of the keras.io example: `(model, encoder, quantizer)`."""
    convolution = {"padding": "same", "activation": "relu", "strides": 2}
    encoder = keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.Conv2D(32, 3, **convolution),
            layers.Conv2D(64, 3, **convolution),
            layers.Conv2D(VECTOR_SIZE, 1, padding="same"),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((7, 7, VECTOR_SIZE)),
            layers.Conv2DTranspose(64, 3, **convolution),
            layers.Conv2DTranspose(32, 3, **convolution),
            layers.Conv2DTranspose(1, 3, padding="same"),
        ]
    )
    quantizer = ExampleQuantizer()
    inputs = keras.Input(IMAGE)
    model = keras.Model(inputs, decoder(quantizer(encoder(inputs))))
    model.compile("adam", loss=lambda x, y: ops.mean((x - y) ** 2) / variance, jit_compile=False)
    return model, encoder, quantizer


def our_vae(seed):
    """Return the VAE of `gan_losses.py`."""
    posterior = distributions.DiagonalNormal(16)
    likelihood = distributions.Bernoulli(IMAGE)
    vae = VAE(
        networks.conv_encoder(IMAGE, (posterior.parameter_size,)),
        networks.conv_decoder((16,), IMAGE),
        posterior,
        likelihood,
        seed=seed,
    )
    vae.compile("adam", jit_compile=False)
    return vae


# === Training and scores ===


def train(settings, kind, seed):
    """Train one model, and return its scores."""
    keras.utils.set_random_seed(seed)
    batches, test = data.load("mnist", BATCH_SIZE, data_dir=settings.data_dir, seed=seed)
    x, _ = as_arrays(batches)
    test, _ = as_arrays(test)
    if kind == "keras_io":
        return {"kind": kind, "seed": seed, **train_example(settings, x, test)}
    if kind == "vae":
        vae = our_vae(seed)
        budget = Budget(settings.minutes + settings.prior_minutes, 2e-3)
        vae.fit(batches, epochs=10_000, callbacks=[budget], verbose=0)
        return {"kind": kind, "seed": seed, **sample_scores(vae, x, test, seed)}
    model = our_vq_vae(seed)
    budget = Budget(settings.minutes, 2e-3)
    history = model.fit(batches, epochs=10_000, callbacks=[budget], verbose=0)
    logs = model.evaluate(test, batch_size=500, verbose=0, return_dict=True)
    reconstructions = model.predict(test, batch_size=500, verbose=0)
    model.prior, epochs = transformer(settings, model, x)
    prior_start = time.process_time()
    losses = model.fit_prior(x, validation_data=test, epochs=epochs, verbose=2).history
    return {
        "kind": kind,
        "seed": seed,
        "epochs": len(history.epoch),
        "squared_error": round(float(np.mean((reconstructions - test) ** 2)), 6),
        "perplexity": round(logs["perplexity"], 2),
        "usage": round(logs["usage"], 4),
        "prior_epochs": epochs,
        "prior_minutes_needed": round((time.process_time() - prior_start) / 60, 1),
        "prior_loss": round(losses["loss"][-1], 2),
        "prior_test_loss": round(losses["val_loss"][-1], 2),
        **sample_scores(model, x, test, seed),
    }


def transformer(settings, model, x):
    """Return a prior, and the number of epochs that fit into the time."""

    def prior():
        return distributions.TransformerPrior(
            model.code_shape, NUM_CODES, width=settings.width, depth=settings.depth
        )

    part = x[:6400]
    codes = np.asarray(model.encode(part))
    seconds = []
    for epochs in (1, 3):  # the difference of the times excludes the time of tracing
        start = time.process_time()
        prior().fit(codes, epochs=epochs, verbose=0)
        seconds.append(time.process_time() - start)
    per_epoch = (seconds[1] - seconds[0]) / 2 * len(x) / len(part)
    return prior(), max(1, round(60 * settings.prior_minutes / per_epoch))


def train_example(settings, x, test):
    """Train the model of the keras.io example, and return its scores."""
    model, encoder, quantizer = example_vq_vae(np.var(x))
    budget = Budget(settings.minutes)
    history = model.fit(
        x, x, BATCH_SIZE, epochs=10_000, callbacks=[budget], shuffle=True, verbose=0
    )
    reconstructions = model.predict(test, batch_size=500, verbose=0)
    codes = np.asarray(quantizer.codes(encoder.predict(test, batch_size=500, verbose=0)))
    frequencies = np.bincount(codes, minlength=NUM_CODES) / codes.size
    positive = frequencies[frequencies > 0]
    return {
        "epochs": len(history.epoch),
        "squared_error": round(float(np.mean((reconstructions - test) ** 2)), 6),
        "perplexity": round(float(np.exp(-np.sum(positive * np.log(positive)))), 2),
        "usage": round(len(positive) / NUM_CODES, 4),
    }


def sample_scores(model, x, test, seed):
    """Return the FID of samples, and the share that a classifier reads with confidence."""
    quality = evaluation.sample_quality(model, test, x[:SAMPLES], seed=seed)
    samples = np.asarray(model.generate(SAMPLES, seed=seed))
    return {
        "confident": round(confident(samples), 4),
        "confident_test_images": round(confident(test), 4),
        **{name: round(value, 3) for name, value in quality.scores.items()},
        "protocol": quality.protocol,
    }


def confident(images):
    """Return the fraction of images that the classifier reads with a confidence above 0.9."""
    classifier = keras.saving.load_model(CLASSIFIER, compile=False)
    probabilities = tf.nn.softmax(classifier.predict(images, batch_size=500, verbose=0))
    return float(np.mean(np.max(probabilities, axis=-1) > CONFIDENT))


# === The table ===


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    by_kind = {kind: [row for row in found if row["kind"] == kind] for kind in NAMES}
    lines = []
    for kind, rows in by_kind.items():
        lines.append([NAMES[kind], *(cell(rows, *column) for column in COLUMNS), len(rows)])
    ours = by_kind["vq_vae"]
    share = np.mean(results.column(ours, "confident"))
    fid = np.mean(results.column(ours, "fid"))
    fid_of_vae = np.mean(results.column(by_kind["vae"], "fid"))
    protocol = ours[0]["protocol"]
    needed = results.spread(results.column(ours, "prior_minutes_needed"), 1)
    head = [
        "model",
        "squared error per pixel",
        "perplexity",
        "vectors used",
        "read with confidence",
        "FID",
        "seeds",
    ]
    return f"""`python scripts/reproduce/vq_vae.py` trains two vector-quantized autoencoders on grey
images of MNIST, ours and that of the [keras.io
example](https://keras.io/examples/generative/vq_vae/), which the script contains. Both have the
same convolutions, 7×7 latent vectors of {VECTOR_SIZE} elements, one codebook of {NUM_CODES}
vectors, the commitment weight 0.25 and the batch size {BATCH_SIZE}. Ours updates the codebook by
moving averages with restarts, and has a cosine decay of the learning rate. That of keras.io trains
the codebook by the gradient, with a constant learning rate. Each is trained for
{ours[0]["minutes"]:g} minutes of CPU time on one thread. Then our prior, a transformer of width
{ours[0]["width"]} and depth {ours[0]["depth"]}, is fitted to the indices of the codebook vectors.
Its number of epochs is chosen in a trial so that the fit takes {ours[0]["prior_minutes"]:g}
minutes. It took {needed} minutes. The VAE of the comparison of adversarial losses is trained for
{ours[0]["minutes"] + ours[0]["prior_minutes"]:g} minutes.

The first three columns are for all 10,000 test images. A lower squared error is better. The
perplexity is at most {NUM_CODES}, if all codebook vectors are equally frequent. The last two
columns are for 10,000 samples: the fraction that the bundled classifier reads as a digit with a
confidence above {CONFIDENT}, and the FID to the test images. ± is the standard deviation over
seeds. The classifier reads {100 * ours[0]["confident_test_images"]:.1f} % of the test images with
this confidence.

The FID uses features of `{protocol["extractor"]}` (hash of the weights: `{protocol["weights"]}`).
It is not comparable with FIDs of papers, which use Inception features. The FID between the test
images and as many training images is {ours[0]["real_fid"]:.2f}. The first target is that at least
80 % of our samples are read with confidence. It {"is" if share >= 0.8 else "is **not**"} reached.
The second target is an FID below that of the VAE. It {"is" if fid < fid_of_vae else "is **not**"}
reached.

{results.markdown(head, lines)}
"""


# Name of the score, factor, digits after the point, unit.
COLUMNS = [
    ("squared_error", 1, 5, ""),
    ("perplexity", 1, 1, ""),
    ("usage", 100, 1, " %"),
    ("confident", 100, 1, " %"),
    ("fid", 1, 1, ""),
]


def cell(rows, name, factor, digits, unit):
    """Return one cell of the table. The score is missing for some of the models."""
    if name not in rows[0]:
        return "–"
    return results.spread([factor * value for value in results.column(rows, name)], digits) + unit


def main(settings: Settings):
    """Train the missing cases, and write the table."""
    cases = {}
    for seed in range(settings.seeds):
        for kind in NAMES:
            cases[f"{kind}-{seed}"] = (settings, kind, seed)
    protocol = dataclasses.asdict(settings)
    del protocol["data_dir"], protocol["seeds"]
    results.complete(TABLE, cases, train, **protocol)
    results.write_section("Vector-quantized autoencoders", table())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
