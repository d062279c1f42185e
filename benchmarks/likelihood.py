"""How much longer log p(x) by importance sampling takes than the matrix products of its decoder: 5,000 draws of 50-200-200-784.

    python benchmarks/likelihood.py                            # 1,000 images a round: three minutes
    python benchmarks/likelihood.py --images 10000 --rounds 1  # all of MNIST's test images: a quarter of an hour

All take turns in the same process, so that what else the machine does meets all alike; the medians of the rounds are compared. The
products are timed one image after the other, each on all cores, and with several images at once. Writes
`benchmarks/results/likelihood.json`.
"""

import dataclasses
import json
import pathlib
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
import tyro

from keras_gen import VAE, distributions, evaluation, networks

RESULT = pathlib.Path(__file__).parent / "results" / "likelihood.json"


@dataclasses.dataclass
class Settings:
    """What is timed."""

    images: int = 1000
    """Images a round, but for the first, which is to warm up."""
    num_samples: int = 5000
    """Draws an image."""
    rounds: int = 3
    """Rounds."""


def competitors(images, num_samples):
    """What is timed, by name: functions without arguments."""
    keras.utils.set_random_seed(0)
    image, wide = (28, 28, 1), {"hidden": (200, 200), "activation": "tanh"}
    posterior, likelihood = distributions.DiagonalNormal(50), distributions.Bernoulli(image)
    encoder = networks.mlp(image, (posterior.parameter_size,), **wide)
    vae = VAE(encoder, networks.mlp((50,), image, **wide), posterior, likelihood)
    x = (np.random.default_rng(0).random((images, *image)) < 0.2).astype("float32")
    kernels = [weight for weight in vae.decoder.get_weights() if weight.ndim == 2]

    @tf.function
    def products(z, at_once):
        def of_one(number):
            hidden = z + tf.cast(number, tf.float32)  # or they would be computed once for all
            for kernel in kernels:
                hidden = tf.matmul(hidden, kernel)
            return hidden[0, 0]

        return tf.map_fn(
            of_one, tf.range(images), fn_output_signature=tf.float32, parallel_iterations=at_once
        )

    return {
        "likelihood": lambda: evaluation.log_likelihood(vae, x, num_samples=num_samples, verbose=0),
        "products": lambda: products(tf.random.normal((num_samples, 50)), 1),
        "overlapping_products": lambda: products(
            tf.random.normal((num_samples, 50)), 10
        ),  # as map_fn has them by itself
    }


def work(name, images, num_samples):
    """One of the competitors, for `speed.py`: a function that does it so many times."""
    once = competitors(images, num_samples)[name]

    def repeat(times):
        for _ in range(times):
            once()

    return repeat


def main(settings: Settings):
    """Time both, print and write."""
    timed = competitors(settings.images, settings.num_samples)
    seconds = {name: [] for name in timed}
    for number in range(settings.rounds + 1):  # the first is to warm up
        for name, once in timed.items():
            began = time.perf_counter()
            once()
            if number:
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    result = {
        **dataclasses.asdict(settings),
        **{f"{name}_seconds": round(value, 2) for name, value in medians.items()},
    }
    for name in ("products", "overlapping_products"):
        result[f"ratio_to_{name}"] = round(medians["likelihood"] / medians[name], 2)
    print(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
