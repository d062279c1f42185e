"""Configurations of training runs: the one source of the flags, the `--help` text and the saved `config.yaml`."""

import dataclasses
import pathlib
from typing import Literal


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What every run needs."""

    data: str = "mnist_mini"
    """The embedded mnist_mini, a TFDS data set by name, a folder of images, an .npz or a .csv file."""
    data_dir: str | None = None
    """Where TFDS keeps its data; TFDS_DATA_DIR or ~/tensorflow_datasets if left out."""
    batch_size: int = 128
    """Examples a step."""
    epochs: int = 40
    """Passes over the training data."""
    seed: int = 0
    """Seed of the first weights, the order of the data and all noise."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of the runs; this one becomes NAME in it, or NAME-2, NAME-3, … if that is taken."""
    name: str = "model"
    """Name of the run and of the SavedModel."""
    savedmodels: pathlib.Path = pathlib.Path("savedmodels")
    """Folder of the SavedModels; the next version goes to NAME/<next integer> in it."""
    pictures_every: int = 10
    """Epochs between two pictures of samples and reconstructions; the last epoch always has them."""


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig(RunConfig):
    """Train a regularized autoencoder: E[L(x, x̂)] + λ‖W‖²."""

    name: str = "autoencoder"
    """Name of the run and of the SavedModel."""
    epochs: int = 30
    """Passes over the training data."""
    network: Literal["mlp", "conv"] = "mlp"
    """Multilayer perceptrons, or convolutions of stride 2."""
    latent_size: int = 32
    """Number of latent dimensions."""
    l2: float = 1e-6
    """λ, the weight of the squared kernels."""
    latent_l1: float = 0.0
    """Weight of the absolute latents (sparse autoencoder)."""
    latent_l2: float = 0.0
    """Weight of the squared latents (RAE)."""
    contractive: float = 0.0
    """Weight of the squared slopes of the latents."""
    loss: str = "binary_crossentropy"
    """L, a Keras loss by name."""
    learning_rate: float = 1e-3
    """Adam's first learning rate; it falls to 0 along a cosine."""


@dataclasses.dataclass(frozen=True)
class VAEConfig(RunConfig):
    """Train a variational autoencoder: -E[log p(x|z)] + KL(q(z|x) || p(z))."""

    name: str = "vae"
    """Name of the run and of the SavedModel."""
    network: Literal["mlp", "conv"] = "conv"
    """Multilayer perceptrons, or convolutions of stride 2."""
    latent_size: int = 10
    """Number of latent dimensions."""
    posterior: Literal["diagonal", "full", "flow"] = "diagonal"
    """q(z|x): normal with independent latents, with a full covariance, or sent through inverse autoregressive flows."""
    conditional: bool = False
    """Show the labels of the data to the encoder and the decoder."""
    prior: Literal["standard", "learned", "mixture", "vamp", "conditional"] = "standard"
    """p(z): N(0, I), a learned normal, a learned mixture of normals, the posteriors of learned pseudo-inputs, or a normal for each
    label."""
    prior_components: int = 20
    """Components of the mixture or pseudo-inputs."""
    likelihood: Literal["bernoulli", "continuous_bernoulli", "normal", "categorical"] = "bernoulli"
    """p(x|z) of a pixel; categorical has a probability for each of 256 grey values."""
    scale: float | Literal["shared", "optimal", "per_element"] = "optimal"
    """Scale of the normal likelihood: a number, learned, in closed form, or from the decoder for each pixel."""
    objective: Literal["elbo", "iwae"] = "elbo"
    """The bound that is trained."""
    num_samples: int = 1
    """Draws of z for each example; a bound tightens with them only as IWAE."""
    kl_weight: float = 1.0
    """Factor on the KL of the ELBO; other than 1 it is a beta-VAE."""
    kl_warm_up: int = 0
    """Training steps in which that factor rises from 0."""
    free_bits: float = 0.0
    """Nats of KL that cost nothing."""
    learning_rate: float = 2e-3
    """Adam's first learning rate; it falls to 0 along a cosine."""


@dataclasses.dataclass(frozen=True)
class GANConfig(RunConfig):
    """Train a GAN: a DCGAN pair, one optimizer a player."""

    name: str = "gan"
    """Name of the run and of the SavedModel."""
    batch_size: int = 64
    """Examples a step."""
    epochs: int = 45
    """Passes over the training data."""
    latent_size: int = 64
    """Number of latent dimensions."""
    conditional: bool = False
    """Show the labels of the data to both players."""
    loss: Literal["non_saturating", "minimax", "least_squares", "hinge", "wasserstein", "relativistic"] = "non_saturating"
    """Both players' formulas."""
    label_smoothing: float = 0.0
    """Doubt on real examples, of the non-saturating and the minimax loss."""
    penalties: tuple[Literal["gradient_penalty", "dragan", "r1", "r2"], ...] = ()
    """Penalties on the discriminator's slope."""
    penalty_weight: float = 10.0
    """Their weight."""
    penalty_every: int = 1
    """Training steps from one use of the penalties to the next."""
    spectral_normalization: bool = False
    """Keep the spectral norms of the discriminator's kernels at 1."""
    discriminator_steps: int = 1
    """Moves of the discriminator for each of the generator."""
    ema_momentum: float | None = None
    """Momentum of the running average of the generator, which then generates, such as 0.999."""
    generator_learning_rate: float = 1e-3
    """Adam's learning rate for the generator."""
    discriminator_learning_rate: float = 4e-4
    """Adam's learning rate for the discriminator."""
    beta_1: float = 0.5
    """Adam's first momentum, for both players."""
