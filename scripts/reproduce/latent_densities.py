"""Compare the distributions from which VAEs and autoencoders sample latents, by the FID on MNIST.

    python scripts/reproduce/latent_densities.py --data-dir ~/tensorflow_datasets

One VAE generates from its prior, from a mixture of normal distributions and from a flow. Both
densities are fitted to samples of q(z | x) after training. A further mixture is fitted to the means
of q(z | x). The other models are a regularized autoencoder (RAE) with a mixture, a Wasserstein
autoencoder (WAE-MMD), and a β-TC-VAE, a VAE whose loss contains the total correlation of the
latents with the weight β. Each training has the same processor time, so that other work on the
machine does not matter. During this time, the learning rate falls to zero with cosine decay.

The target is a mixture or a flow that lowers the FID of the VAE to at most half. The features are
those of the bundled classifier. Therefore the FIDs are not comparable with Inception FIDs.
"""

import dataclasses
import time

import keras
import numpy as np
import results
import tyro
from colour_images import TimeLimit

from keras_gen import data, distributions, evaluation, objectives, regularizers
from keras_gen.data import as_arrays
from keras_gen.models import RegularizedAutoencoder
from keras_gen.runs.recipes import AutoencoderConfig, VAEConfig, build

IMAGE = (28, 28, 1)
TABLE = "latent_densities"
EXAMPLES = 60_000
LATENTS = 16
WAE_LATENTS = 8  # as in the paper on the WAE-MMD, arXiv:1711.01558
CONFIGS = {
    "VAE": VAEConfig(network="conv", latent_size=LATENTS),
    "RAE": AutoencoderConfig(network="conv", latent_size=LATENTS, latent_l2=1e-4),
    "WAE-MMD": AutoencoderConfig(network="conv", latent_size=WAE_LATENTS, loss="mse"),
    "β-TC-VAE, β = 6": VAEConfig(network="conv", latent_size=LATENTS),
}
# The loss of the WAE-MMD contains the maximum mean discrepancy (MMD) of the latents and the prior.
# The code of its authors adds 10 MMD² to 0.05 times the sum of the squared errors. Here the squared
# error is a mean over the 784 pixels, so the weight of MMD² is divided by 0.05 and by 784.
MMD_WEIGHT = 10 / 0.05 / 784
ROWS = (
    ("VAE", "prior"),
    ("VAE", "mixture"),
    ("VAE", "flow"),
    ("VAE", "mixture of means"),
    ("RAE", "mixture"),
    ("WAE-MMD", "prior"),
    ("β-TC-VAE, β = 6", "prior"),
)
# Number of digits after the decimal point.
DIGITS = {"fid": 1, "precision": 3, "recall": 3, "coverage": 3}


@dataclasses.dataclass
class Settings:
    """Which trainings are compared."""

    data_dir: str | None = None
    """Folder of all TFDS data sets, with MNIST."""
    seeds: int = 3
    """Number of trainings per model."""
    minutes: float = 3
    """Processor time of each training, in minutes."""


def make(name, seed):
    """Make and compile a model."""
    model = build(dataclasses.replace(CONFIGS[name], seed=seed, schedule="constant"), IMAGE, 1)
    if name == "WAE-MMD":
        prior = distributions.StandardNormal(WAE_LATENTS)
        model = RegularizedAutoencoder(model.encoder, model.decoder, prior, seed=seed)
        model.compile("adam", "mse", regularizers.LatentMMD(MMD_WEIGHT))
    if name.startswith("β-TC-VAE"):
        objective = objectives.TotalCorrelation(beta=6.0, num_examples=EXAMPLES)
        model.compile(keras.optimizers.Adam(CONFIGS[name].learning_rate), objective=objective)
    return model


def fit_density(model, density, training):
    """Fit the density of a row."""
    if density == "flow":
        model.fit_latent_density(training, distributions.FittedFlow(LATENTS))
    elif density == "mixture of means":
        means = np.concatenate([model.latents(x) for x in training])
        mixture = distributions.FittedMixture(LATENTS, num_components=None)
        model.fit_latent_density(training.take(1), mixture)
        mixture.fit(means, model.seed)
    elif density == "mixture":
        mixture = distributions.FittedMixture(LATENTS, num_components=None)
        model.fit_latent_density(training, mixture)


def train(settings, name, seed):
    """Train once, and return the scores of each density."""
    keras.utils.set_random_seed(seed)
    batch_size = CONFIGS[name].batch_size
    training, test = data.load("mnist", batch_size, data_dir=settings.data_dir, seed=seed)
    model = make(name, seed)
    limit = TimeLimit(settings.minutes)
    model.fit(training.repeat(), steps_per_epoch=50, epochs=10**6, verbose=0, callbacks=[limit])
    x, _ = as_arrays(test)
    other = as_arrays(training, len(x))[0]
    rows = []
    for density in [density for model_of_row, density in ROWS if model_of_row == name]:
        start = time.process_time()
        fit_density(model, density, training)
        seconds = time.process_time() - start
        quality = evaluation.sample_quality(model, x, other, seed=seed)
        rows.append(
            {
                "latents": density,  # the key `density` is already the name of a score
                "components": getattr(model.latent_distribution, "fitted_components", None),
                "seconds": round(seconds, 1),
                **{name: round(value, 3) for name, value in quality.scores.items()},
                "protocol": quality.protocol,
            }
        )
        print(name, seed, rows[-1], flush=True)
    return {
        "name": name,
        "seed": seed,
        "epochs": round(limit.steps / len(training), 1),
        "rows": rows,
    }


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    lines = []
    fids = {}
    for name, density in ROWS:
        trainings = [training for training in found if training["name"] == name]
        rows = [
            row for training in trainings for row in training["rows"] if row["latents"] == density
        ]
        if not rows:
            continue
        fids[name, density] = np.array(results.column(rows, "fid"))
        spreads = [
            results.spread(results.column(rows, score), digits) for score, digits in DIGITS.items()
        ]
        components = results.column(rows, "components")
        numbers = "" if None in components else ", ".join(map(str, sorted(components)))
        seconds = results.spread(results.column(rows, "seconds"), 0)
        epochs = results.spread(results.column(trainings, "epochs"), 1)
        lines.append([name, density, *spreads, numbers, seconds, epochs, len(rows)])
    prior = fids["VAE", "prior"]
    ratios = {density: fids["VAE", density] / prior for density in ("mixture", "flow")}
    listed = "; ".join(
        f"{density} {ratio.mean():.2f} (largest of the seeds: {ratio.max():.2f})"
        for density, ratio in ratios.items()
    )
    reached = min(ratio.mean() for ratio in ratios.values()) <= 0.5
    protocol = found[0]["rows"][0]["protocol"]
    head = [
        *("model", "latents sampled from", "FID", "precision", "recall", "coverage"),
        *("components", "seconds of the fit", "epochs", "seeds"),
    ]
    return f"""`python scripts/reproduce/latent_densities.py` compares the distributions from which
models sample latents on MNIST. The question is whether a density that is fitted after training
gives better samples than the prior. The rows of the VAE use the same trained VAE. Its mixture and
its flow are fitted to samples of q(z ∣ x), and the mixture of means to the means of q(z ∣ x). The
number of components of each mixture is chosen by the Bayesian information criterion. RAE is a
regularized autoencoder. WAE-MMD is a Wasserstein autoencoder with the inverse multiquadric kernel
and {WAE_LATENTS} latents. The other models have {LATENTS} latents.

10,000 samples are compared with the 10,000 test images. A lower FID is better. Higher precision,
recall and coverage are better. ± is the standard deviation over seeds. Each training has
{found[0]["minutes"]:g} minutes of processor time on one core.

The FID uses features of `{protocol["extractor"]}` (hash of the weights: `{protocol["weights"]}`).
It is not comparable with FIDs of papers, which use Inception features. The FID between the test
images and as many training images is {found[0]["rows"][0]["real_fid"]:.2f}.

The target is a mixture or a flow with at most half the FID of the VAE with its prior. It is
{"" if reached else "**not** "}reached. The ratios are: {listed}.

{results.markdown(head, lines)}
"""


def main(settings: Settings):
    """Train the missing cases, and write the table."""
    cases = {}
    for seed in range(settings.seeds):
        for number, name in enumerate(CONFIGS):
            cases[f"{number}-{seed}"] = (settings, name, seed)
    results.complete(TABLE, cases, train, minutes=settings.minutes)
    results.write_section("Densities fitted to the latents", table())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
