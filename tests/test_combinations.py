"""Every posterior with every prior, and likelihoods in turn.

A selection, which has each of them once, runs in the other modes of execution as well.
"""

import functools
import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, LATENTS, normalized

import keras_gen
from keras_gen import distributions, objectives

POSTERIORS = {
    "diagonal": distributions.DiagonalNormal,
    "full": distributions.FullCovarianceNormal,
    "flow": functools.partial(
        distributions.InverseAutoregressiveNormal, hidden_size=4, context_size=2
    ),
}
PRIORS = {
    "standard": distributions.StandardNormal,
    "learned": distributions.LearnedNormal,
    "conditional": functools.partial(distributions.ConditionalNormal, num_classes=3, hidden_size=4),
    "mixture": functools.partial(distributions.NormalMixture, num_components=3),
    "vamp": functools.partial(distributions.VampPrior, num_components=3),
}
LIKELIHOODS = {
    "bernoulli": distributions.Bernoulli,
    "continuous": distributions.ContinuousBernoulli,
    "fixed": functools.partial(distributions.Normal, scale=0.5),
    "shared": functools.partial(distributions.Normal, scale="shared"),
    "optimal": functools.partial(distributions.Normal, scale="optimal"),
    "per_element": functools.partial(distributions.Normal, scale="per_element"),
    "categorical": functools.partial(distributions.Categorical, num_levels=5),
    "logistic": functools.partial(
        distributions.DiscretizedLogisticMixture, num_components=2, num_levels=5
    ),
}
PAIRS = [
    pair
    for pair in itertools.product(POSTERIORS, PRIORS)
    if pair != ("flow", "vamp")  # which is refused
]
SELECTION = [
    ("full", "standard", "bernoulli"),
    ("diagonal", "learned", "continuous"),
    ("full", "mixture", "shared"),
    ("full", "conditional", "fixed"),
    ("diagonal", "vamp", "optimal"),
    ("flow", "standard", "categorical"),
]
LABELS = np.arange(8) % 3
LEVELS = (np.random.default_rng(0).integers(0, 5, size=(8, *IMAGE)) / 4).astype("float32")
WEIGHTS = np.linspace(0.5, 1.5, 8, dtype="float32")


def vae_of(posterior, prior, likelihood):
    keras.utils.set_random_seed(0)
    posterior = POSTERIORS[posterior](LATENTS)
    with warnings.catch_warnings(action="ignore"):  # of scale="per_element", tested elsewhere
        likelihood = LIKELIHOODS[likelihood](IMAGE)
    encoder = normalized(IMAGE, (posterior.parameter_size,))
    decoder = normalized((LATENTS,), likelihood.parameter_shape)
    return keras_gen.VAE(encoder, decoder, posterior, likelihood, PRIORS[prior](LATENTS), seed=3)


def target_of(model):
    return LABELS if model.num_classes else LEVELS


def of_every_pair(count):
    """Each pair with the next `count` likelihoods."""
    turn = itertools.cycle(LIKELIHOODS)
    return [(*pair, tuple(itertools.islice(turn, count))) for pair in PAIRS]


TRIPLES = of_every_pair(2) + [
    pytest.param(*triple, marks=pytest.mark.exhaustive)
    for triple in of_every_pair(len(LIKELIHOODS))
]


@pytest.mark.parametrize(("posterior", "prior", "likelihoods"), TRIPLES)
def test_every_weight_learns(posterior, prior, likelihoods):
    for likelihood in likelihoods:
        model = vae_of(posterior, prior, likelihood)
        model.compile("adam", run_eagerly=True)
        before = [variable.numpy() for variable in model.trainable_variables]
        for _ in range(2):
            logs = model.train_on_batch(
                LEVELS, target_of(model), sample_weight=WEIGHTS, return_dict=True
            )
        assert all(np.isfinite(value) for value in logs.values()), likelihood
        assert logs["elbo"] == pytest.approx(
            -logs["reconstruction_loss"] - logs["kl_loss"], rel=1e-4
        )
        for old, variable in zip(before, model.trainable_variables, strict=True):
            assert not np.array_equal(old, variable.numpy()), (likelihood, variable.path)
        assert model.generate(2, seed=1, condition=1 if model.num_classes else None).shape == (
            2,
            *IMAGE,
        )


DOUBLY = objectives.IWAE(3, doubly_reparameterized=True)
MODES = ["graph", "XLA", "mixed_float16", "two replicas"]


OF_SELECTION = [
    *((triple, "XLA") for triple in SELECTION),
    *itertools.product(SELECTION[::2], MODES[2:]),
]


@pytest.mark.parametrize(
    ("triple", "mode"),
    OF_SELECTION,
    ids=lambda part: part if isinstance(part, str) else "-".join(part),
)
def test_a_selection_agrees_in_every_mode(triple, mode, two_replicas):
    check_mode(triple, mode, two_replicas)


@pytest.mark.parametrize("mode", MODES[:2])
def test_the_doubly_reparameterized_bound_agrees_in_every_mode(mode, two_replicas):
    check_mode(SELECTION[0], mode, two_replicas, DOUBLY)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "triple", [(*pair, likelihood) for pair in PAIRS for likelihood in LIKELIHOODS], ids="-".join
)
def test_every_triple_agrees_in_every_mode(triple, mode, two_replicas):
    check_mode(triple, mode, two_replicas)


@functools.cache
def trained_eagerly(triple, objective):
    """Three times the same batch, and the history of a training on them without a graph."""
    reference = vae_of(*triple)
    reference.compile("adam", objective=objective, run_eagerly=True)
    data = tf.data.Dataset.from_tensors((LEVELS, target_of(reference), WEIGHTS)).repeat(3)
    return data, reference.fit(data, verbose=0).history


def check_mode(triple, mode, two_replicas, objective=None):
    data, expected = trained_eagerly(triple, objective)
    keras.config.set_dtype_policy("mixed_float16" if mode == "mixed_float16" else "float32")
    with two_replicas.scope() if mode == "two replicas" else tf.distribute.get_strategy().scope():
        model = vae_of(*triple)
        model.compile("adam", objective=objective, jit_compile=mode == "XLA")
    history = model.fit(data, verbose=0).history
    # elsewhere than in the graph the noise, the rounding or the batch statistics are others
    tolerance = {"rtol": 1e-4} if mode == "graph" else {"rtol": 0.1, "atol": 1.0}
    for name in ("loss", "reconstruction_loss"):
        np.testing.assert_allclose(history[name], expected[name], **tolerance)


def test_a_flow_in_a_vamp_prior_is_refused():
    with pytest.raises(ValueError, match="needs a posterior without weights"):
        vae_of("flow", "vamp", "bernoulli")
