"""Was assuming independent latents adequate? VAEs with a diagonal and a full covariance of q(z | x), trained alike, over paired seeds.

    python scripts/reproduce/posterior_covariance.py --data-dir ~/tensorflow_datasets

MNIST with dynamic binarization, 784-200-200-n tanh units. Both of a pair begin with the same posterior: the full covariance has the
weights of the diagonal one, and outputs of 0 below the diagonal; order and noise are the same. ELBO and log p(x), by its bound with
500 draws, of all 10,000 test images. There is no target: no table of this is published. The budget is 90 minutes on two cores.
"""

import dataclasses
import itertools
import time

import keras
import numpy as np
import results
import tyro

from keras_gen import VAE, data, distributions, evaluation, networks
from keras_gen.data import as_arrays
from keras_gen.evaluation.independence import extended

IMAGE, TABLE = (28, 28, 1), "posterior_covariance"
FAMILIES = ("diagonal", "full")


@dataclasses.dataclass
class Settings:
    """What is compared."""

    data_dir: str | None = None
    """Where TFDS keeps MNIST."""
    latents: tuple[int, ...] = (10, 50)
    """Numbers of latents."""
    seeds: int = 5
    """Pairs of trainings."""
    epochs: int = 60
    """Passes over the 60,000 training images."""
    learning_rate: float = 2e-3
    """Adam's; it falls to 0 along a cosine."""
    num_samples: int = 500
    """Draws for the likelihood of each test image."""


def train(settings, latents, family, seed):
    """One training and what it reached."""
    keras.utils.set_random_seed(seed)
    training, test = data.load("mnist", 100, data_dir=settings.data_dir, seed=seed, binarize=True)
    posterior, likelihood = distributions.DiagonalNormal(latents), distributions.Bernoulli(IMAGE)
    wide = {"hidden": (200, 200), "activation": "tanh"}
    encoder, decoder = (
        networks.mlp(IMAGE, (posterior.parameter_size,), **wide),
        networks.mlp((latents,), IMAGE, **wide),
    )
    if family == "full":
        posterior = distributions.FullCovarianceNormal(latents)
        encoder = extended(encoder, posterior)
    vae = VAE(encoder, decoder, posterior, likelihood, seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, settings.epochs * len(training)
    )
    vae.compile(keras.optimizers.Adam(schedule), steps_per_execution=100, jit_compile=False)
    began = time.perf_counter()
    vae.fit(training, epochs=settings.epochs, verbose=0)
    minutes = (time.perf_counter() - began) / 60
    x, _ = as_arrays(test)
    found = evaluation.log_likelihood(vae, x, num_samples=settings.num_samples, verbose=0)
    return {
        "latents": latents,
        "family": family,
        "seed": seed,
        "elbo": round(float(np.mean(found.elbos)), 3),
        "log_likelihood": round(found.mean, 3),
        "error_of_draws": round(found.standard_error, 4),
        "active_units": int(evaluation.latent_report(vae, x).active.sum()),
        "minutes": round(minutes, 1),
    }


def table():
    """The comparison in words and numbers."""
    found, rows = list(results.load(TABLE).values()), []
    draws = f"log p(x), {found[0]['num_samples']} draws"
    for latents in sorted({each["latents"] for each in found}):
        sides = [
            sorted(
                (each for each in found if (each["latents"], each["family"]) == (latents, family)),
                key=lambda each: each["seed"],
            )
            for family in FAMILIES
        ]
        pairs = min(map(len, sides))
        if pairs < 2:
            continue
        for name in ("elbo", "log_likelihood"):
            diagonal, full = ([each[name] for each in side] for side in sides)
            gain = evaluation.Interval.of([b - a for a, b in zip(diagonal, full, strict=False)])
            rows.append(
                [
                    f"{latents}, {pairs} pairs",
                    {"elbo": "ELBO", "log_likelihood": draws}[name],
                    *map(results.spread, (diagonal, full)),
                    f"**{gain}**",
                ]
            )
        units = [results.spread([each["active_units"] for each in side], 1) for side in sides]
        rows.append([f"{latents}, {pairs} pairs", "active units", *units, ""])
    minutes = sum(each["minutes"] for each in found)
    head = ["latents", "", "diagonal", "full covariance", "gain, paired (95 %)"]
    return f"""`python scripts/reproduce/posterior_covariance.py`, {found[0]["epochs"]} epochs each,
{minutes:.0f} minutes of training, each on one core beside another (budget: 90 on both).
MNIST with dynamic binarization, all 10,000 test images, nats; log p(x) is its lower bound with so many draws. Both of a pair
begin with the same weights, those of the covariances being 0, and see the same order and noise; ± is the standard deviation over
seeds, the interval is Student's for the mean of the paired differences. No such table is published elsewhere, so there is no target.

{results.markdown(head, rows)}
"""


def main(settings: Settings):
    """Train what is missing, and write the table."""
    cases = itertools.product(settings.latents, range(settings.seeds), FAMILIES)
    named = {
        f"{latents}-{family}-{seed}": (settings, latents, family, seed)
        for latents, seed, family in cases
    }
    protocol = {
        name: getattr(settings, name) for name in ("epochs", "learning_rate", "num_samples")
    }
    results.complete(TABLE, named, train, **protocol)
    results.write_section("Was independence adequate? Diagonal against full covariance", table())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
