"""Configurations of training runs: the one source of the flags, the `--help` text and the saved `config.yaml`."""

import dataclasses
import itertools
import pathlib
from typing import Any, Literal

import tyro
import yaml

from keras_gen._files import PathLike

_POSITIVE = (
    "batch_size",
    "epochs",
    "steps_per_execution",
    "pictures_every",
    "checkpoint_every",
    "patience",
    "clip_norm",
)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What every run needs."""

    data: str = "mnist_mini"
    """The embedded mnist_mini, a TFDS data set by name, a folder of images, an .npz or a .csv file."""
    data_dir: str | None = None
    """Where TFDS keeps its data; TFDS_DATA_DIR or ~/tensorflow_datasets if left out."""
    batch_size: int = 128
    """Examples a step, over all devices."""
    steps_per_execution: int = 1
    """Training steps in one go, after which progress, checkpoints and Ctrl-C come; more are faster for small networks."""
    strategy: Literal["single", "mirrored", "multiworker"] = "single"
    """Devices: one, all local GPUs, or all workers of TF_CONFIG, on each of which the same command is started."""
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
    checkpoint_every: int | None = None
    """Training steps between two checkpoints; the end of each epoch always has one."""
    deterministic: bool = False
    """Have the same seed give the same run to the last bit, resumed or not, on the same machine."""
    skip_corrupt: bool = False
    """Leave out the images of a folder that cannot be read, and count them."""
    binarize: bool = False
    """Draw each pixel as 0 or 1 by its grey value: for training anew each time, for the test set always the same."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate: to 0 along a cosine, or as it is."""
    warm_up: int = 0
    """Training steps in which the learning rate first rises from 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient; a longer one is cut to it."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            positive = field.name in _POSITIVE or field.name.endswith("learning_rate")
            if positive and value is not None and not value > 0:
                raise ValueError(f"Expected `{field.name}` above 0. Received: {value!r}.")
        if self.steps_per_execution > 1 and self.strategy != "single":
            raise ValueError(
                f"Expected `steps_per_execution` 1 for strategy={self.strategy!r} (github.com/keras-team/keras/issues/19246). "
                f"Received: {self.steps_per_execution!r}. Or use `strategy` 'single'."
            )


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
    """Adam's learning rate before its schedule."""
    patience: int | None = None
    """Epochs without a better `val_loss` after which training stops and the best weights come back."""


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
    """p(z): N(0, I), a learned normal, a mixture of normals, posteriors of pseudo-inputs (VampPrior), or a normal for each label."""
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
    """Adam's learning rate before its schedule."""
    patience: int | None = None
    """Epochs without a better `val_elbo` after which training stops and the best weights come back."""


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
    loss: Literal[
        "non_saturating", "minimax", "least_squares", "hinge", "wasserstein", "relativistic"
    ] = "non_saturating"
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
    schedule: Literal["cosine", "constant"] = "constant"
    """Course of both learning rates: to 0 along a cosine, or as they are."""


KINDS: dict[str, type[AutoencoderConfig | VAEConfig | GANConfig]] = {
    "autoencoder": AutoencoderConfig,
    "vae": VAEConfig,
    "gan": GANConfig,
}
"""The configurations by the name of their model."""


def as_dict(config: RunConfig) -> dict[str, Any]:
    """A configuration as `config.yaml` has it: the name of the model, then the fields."""
    (model,) = (name for name, kind in KINDS.items() if type(config) is kind)
    fields = {
        key: str(value) if isinstance(value, pathlib.Path) else value
        for key, value in dataclasses.asdict(config).items()
    }
    return {
        "model": model,
        **{
            key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()
        },
    }


def read(run: PathLike) -> AutoencoderConfig | VAEConfig | GANConfig:
    """The configuration of a run, from `run/config.yaml`.

    Raises:
        ValueError: If there is none, or a field is unknown or has a value that cannot be; the message names it.
    """
    path = pathlib.Path(run) / "config.yaml"
    if not path.is_file():
        raise ValueError(f"Expected the folder of a run, with config.yaml in it. Received: {run}")
    try:
        fields = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(
            f"Expected YAML in {path}. Received: {' '.join(str(error).split())}."
        ) from error
    if not isinstance(fields, dict) or fields.get("model") not in KINDS:
        raise ValueError(
            f"Expected {path} to begin with `model: NAME`, one of {', '.join(KINDS)}. Received: {str(fields)[:40]!r}…"
        )
    kind = KINDS[fields.pop("model")]
    arguments = {name: _arguments(name, value) for name, value in fields.items()}
    try:
        return tyro.cli(kind, args=[*itertools.chain(*arguments.values())], console_outputs=False)
    except SystemExit:
        for name, argument in arguments.items():
            try:
                tyro.cli(kind, args=argument, console_outputs=False)
            except SystemExit:
                raise ValueError(
                    f"Expected a field and value of {kind.__name__} in {path}. Received: {name}: {fields[name]!r}. "
                    "`keras-gen train --help` lists them."
                ) from None
        raise


def first_difference(saved: RunConfig, config: RunConfig) -> tuple[str, Any, Any] | None:
    """`(field, saved value, value)` of the first difference of two configurations, but for where runs are kept; None without one."""
    there, here = as_dict(saved), as_dict(config)
    names = (
        name
        for name in there
        if name not in ("runs", "name") and there[name] != here.get(name, there[name])
    )
    return next(((name, there[name], here[name]) for name in names), None)


def _arguments(name, value):
    """A field of `config.yaml` as arguments of the command line."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, *map(str, value)] if isinstance(value, list) else [flag, str(value)]
