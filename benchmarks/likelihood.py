"""Compare the time of estimating log p(x) with that of the matrix multiplications alone.

    python benchmarks/likelihood.py                            # 1,000 images: three minutes
    python benchmarks/likelihood.py --images 10000 --rounds 1  # MNIST's test set: 15 minutes

The decoder is 50-200-200-784, and importance sampling takes 5,000 samples per image. The matrix
multiplications are those of the decoder. They are timed in two ways: image after image, each on all
cores, and with several images at once. All competitors take turns in the same process, so that
other work of the machine affects them equally. The medians over the rounds are compared and written
to `benchmarks/results/likelihood.json`.
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
    """Images per round."""
    num_samples: int = 5000
    """Samples per image."""
    rounds: int = 3
    """Number of rounds, after one round for warm-up."""


def competitors(images, num_samples):
    """Return what is timed, by name: functions without arguments."""
    keras.utils.set_random_seed(0)
    image = (28, 28, 1)
    wide = {"hidden": (200, 200), "activation": "tanh"}
    posterior = distributions.DiagonalNormal(50)
    likelihood = distributions.Bernoulli(image)
    encoder = networks.mlp(image, (posterior.parameter_size,), **wide)
    vae = VAE(encoder, networks.mlp((50,), image, **wide), posterior, likelihood)
    x = (np.random.default_rng(0).random((images, *image)) < 0.2).astype("float32")
    kernels = [weight for weight in vae.decoder.get_weights() if weight.ndim == 2]

    @tf.function
    def multiply(z, at_once):
        def of_image(number):
            # The input differs per image, because TensorFlow would multiply equal inputs only once.
            hidden = z + tf.cast(number, tf.float32)
            for kernel in kernels:
                hidden = tf.matmul(hidden, kernel)
            return hidden[0, 0]

        return tf.map_fn(
            of_image, tf.range(images), fn_output_signature=tf.float32, parallel_iterations=at_once
        )

    def products(at_once):
        return multiply(tf.random.normal((num_samples, 50)), at_once)

    return {
        "likelihood": lambda: evaluation.log_likelihood(vae, x, num_samples=num_samples, verbose=0),
        "products": lambda: products(1),
        "overlapping_products": lambda: products(10),  # the default of `tf.map_fn`
    }


def work(name, images, num_samples):
    """Return one of the competitors for `speed.py`: a function of a number of repetitions."""
    once = competitors(images, num_samples)[name]

    def repeat(times):
        for _ in range(times):
            once()

    return repeat


def main(settings: Settings):
    """Time, print and write."""
    timed = competitors(settings.images, settings.num_samples)
    seconds = {name: [] for name in timed}
    for number in range(settings.rounds + 1):  # the first round is for warm-up
        for name, once in timed.items():
            start = time.perf_counter()
            once()
            if number:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    result = dataclasses.asdict(settings)
    for name, median in medians.items():
        result[f"{name}_seconds"] = round(median, 2)
    for name in ("products", "overlapping_products"):
        result[f"ratio_to_{name}"] = round(medians["likelihood"] / medians[name], 2)
    print(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
