"""Dtype policies: models train as plain Keras models do, or the policy is refused by name."""

import itertools

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from keras import layers
from support import CLASSES, IMAGE, LATENTS, SERVED, tiny, tiny_hierarchical_vae
from test_combinations import LEVELS, LIKELIHOODS, PAIRS, target_of, vae_of

import keras_gen
from keras_gen import distributions, losses, networks, objectives, regularizers

PURE = ["bfloat16", "float16", "float64"]
POLICIES = [*PURE, "mixed_bfloat16", "mixed_float16"]
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}
X = np.random.default_rng(0).random((8, 4), dtype=np.float32)


@pytest.mark.filterwarnings("ignore:.*overflow encountered in cast")  # Keras, in float16
@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("policy", PURE)
@pytest.mark.parametrize("name", SERVED)
def test_each_model_trains_saves_and_generates(name, policy, mode, images, tmp_path):
    keras.config.set_dtype_policy(policy)
    model, arguments = SERVED[name]()
    model.compile(**arguments, run_eagerly=mode == "eager")
    labels = np.arange(len(images)) % CLASSES if model.num_classes else None
    before = [np.asarray(variable, "float64") for variable in model.trainable_variables]
    history = model.fit(images, labels, **FIT).history
    assert all(np.isfinite(values).all() for values in history.values())
    changed = [
        (old != np.asarray(variable, "float64")).any()
        for old, variable in zip(before, model.trainable_variables, strict=True)
    ]
    assert np.mean(changed) > 0.7  # a weight of 1 does not change by less than 0.004 in bfloat16
    if name == "autoencoder":
        model.calibrate(images, 0.5)
        model.fit_latent_density(images, 2)
    label = 1 if model.num_classes else None
    expected = np.asarray(model.generate(2, seed=1, condition=label))
    assert np.isfinite(expected).all()
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.generate(2, seed=1, condition=label), expected, rtol=1e-6)
    dtypes = [variable.dtype for variable in model.variables]
    assert [variable.dtype for variable in loaded.variables] == dtypes
    assert policy in dtypes


def networks_of(policy):
    """An encoder and a decoder whose layers all have one policy, the last ones included."""
    return (
        keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(3, "tanh", dtype=policy),
                layers.Dense(2, dtype=policy),
            ]
        ),
        keras.Sequential([keras.Input((2,)), layers.Dense(4, dtype=policy)]),
    )


@pytest.mark.usefixtures("keras_own_adam")
@pytest.mark.parametrize(
    ("policy", "optimizer", "by"),
    [
        ("bfloat16", "sgd", "global"),
        ("bfloat16", "rmsprop", "layers"),
        ("float16", "adam", "global"),
        ("float16", "sgd", "layers"),
        ("float64", "adam", "layers"),
        ("float64", "sgd", "global"),
        ("mixed_bfloat16", "adam", "layers"),
        ("mixed_float16", "adam", "global"),
    ],
)
def test_training_is_that_of_a_plain_keras_model(policy, optimizer, by):
    if by == "global":
        keras.config.set_dtype_policy(policy)
    encoder, decoder = networks_of(None if by == "global" else policy)
    inputs = keras.Input((4,))
    clones = [keras.models.clone_model(network) for network in (encoder, decoder)]
    plain = keras.Model(inputs, clones[1](clones[0](inputs)))
    model = keras_gen.RegularizedAutoencoder(encoder, decoder)
    plain.set_weights(model.get_weights())
    for each in (plain, model):
        each.compile(optimizer, loss="mse", run_eagerly=True)
    expected = plain.fit(X, X, epochs=3, **FIT).history["loss"]
    np.testing.assert_allclose(model.fit(X, epochs=3, **FIT).history["loss"], expected, rtol=1e-6)
    for mine, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert type(model.optimizer) is type(plain.optimizer)


RANDOM_OPTIMIZERS = {
    **{name: lambda name=name: name for name in ("sgd", "rmsprop", "adagrad", "adamax", "lion")},
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "clipped": lambda: keras.optimizers.RMSprop(0.01, clipnorm=0.1),
    "schedule": lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9)),
    "accumulation": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
    "nadam": lambda: "nadam",
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
}
FAIL_IN_BFLOAT16 = ("nadam", "amsgrad")
"""Optimizers of Keras that fail in bfloat16."""


@pytest.mark.usefixtures("keras_own_adam")
@pytest.mark.filterwarnings("ignore:.*overflow encountered in cast")  # Keras, in float16
@hypothesis.settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    policies=st.tuples(*[st.sampled_from(["float32", *POLICIES])] * 2),
    common=st.sampled_from([None, None, None, *POLICIES]),
    optimizer=st.sampled_from(sorted(RANDOM_OPTIMIZERS)),
    loss=st.sampled_from(["mse", "mae", "huber", "log_cosh"]),
    weights=st.sampled_from([None, 0.25]),
)
def test_random_policies_and_optimizers_train_as_plain_keras_does_or_are_refused(
    policies, common, optimizer, loss, weights
):
    keras.config.set_dtype_policy(common or "float32")
    keras.utils.set_random_seed(0)
    encoder, decoder = (
        networks_of(None if common else policy)[i] for i, policy in enumerate(policies)
    )
    inputs = keras.Input((4,))
    clones = [keras.models.clone_model(network) for network in (encoder, decoder)]
    plain = keras.Model(inputs, clones[1](clones[0](inputs)))
    model = keras_gen.RegularizedAutoencoder(encoder, decoder)
    plain.set_weights(model.get_weights())
    in_bfloat16 = any(variable.dtype == "bfloat16" for variable in model.trainable_variables)
    if in_bfloat16 and optimizer in FAIL_IN_BFLOAT16:
        with pytest.raises(ValueError, match="works in bfloat16"):
            model.compile(RANDOM_OPTIMIZERS[optimizer](), loss=loss)
        return
    for each in (plain, model):
        each.compile(RANDOM_OPTIMIZERS[optimizer](), loss=loss, run_eagerly=True)
    if in_bfloat16 and optimizer.startswith("adam"):
        # that of Keras does nothing
        assert np.isfinite(model.train_on_batch(X, return_dict=True)["loss"])
        return
    sample_weight = None if weights is None else np.linspace(weights, 1, 8, dtype="float32")
    for _ in range(3):
        expected = plain.train_on_batch(X, X, sample_weight, return_dict=True)["loss"]
        found = model.train_on_batch(X, sample_weight=sample_weight, return_dict=True)["loss"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for mine, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def of_every_pair():
    """Each pair of a posterior and a prior, with a likelihood and a policy in turn."""
    turns = zip(itertools.cycle(LIKELIHOODS), itertools.cycle(PURE), strict=True)
    return [(*pair, *turn) for pair, turn in zip(PAIRS, turns, strict=False)]


EVERY = [
    pytest.param(*pair, likelihood, policy, marks=pytest.mark.exhaustive)
    for pair, likelihood, policy in itertools.product(PAIRS, LIKELIHOODS, PURE)
]


@pytest.mark.parametrize(("posterior", "prior", "likelihood", "policy"), [*of_every_pair(), *EVERY])
def test_every_distribution_trains(posterior, prior, likelihood, policy):
    keras.config.set_dtype_policy(policy)
    model = vae_of(posterior, prior, likelihood)
    # a smaller step from 1 is rounded back to 1 in bfloat16
    model.compile(keras.optimizers.RMSprop(0.01), run_eagerly=True)
    labels = target_of(model)
    before = [np.asarray(variable, "float64") for variable in model.trainable_variables]
    for _ in range(2):
        logs = model.train_on_batch(LEVELS, labels, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert (old != np.asarray(variable, "float64")).any(), variable.path
    of_distributions = [*model.posterior.weights, *model.prior.weights, *model.likelihood.weights]
    assert {variable.dtype for variable in of_distributions} <= {"float32"}
    condition = [labels] if model.num_classes else []
    assert np.isfinite(model.score(LEVELS, *condition)).all()


@pytest.mark.parametrize("policy", PURE)
@pytest.mark.parametrize(
    "objective", [objectives.ELBO(objectives.LinearWarmUp(3), 2, 0.5), objectives.IWAE(3, True)]
)
def test_every_objective_trains(objective, policy):
    keras.config.set_dtype_policy(policy)
    model = vae_of("full", "learned", "bernoulli")
    model.compile("rmsprop", objective=objective, run_eagerly=True)
    logs = model.train_on_batch(LEVELS, target_of(model), return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())


@pytest.mark.parametrize("policy", POLICIES)
def test_every_regularizer_of_latents_trains(policy):
    model = keras_gen.RegularizedAutoencoder(*networks_of(policy))
    terms = [regularizers.Contractive(0.1), regularizers.LatentL1(0.1), regularizers.LatentL2(0.1)]
    model.compile("sgd", loss="mse", regularizers=terms, run_eagerly=True)
    logs = model.train_on_batch(X, return_dict=True)
    assert 0 < logs["penalty_loss"] < np.inf


@pytest.mark.parametrize(
    ("policy", "loss"),
    list(zip(POLICIES, itertools.cycle([losses.Hinge(), losses.RelativisticPairing()]))),
)
def test_gans_train_with_all_penalties(policy, loss):
    keras.config.set_dtype_policy(policy)
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
    discriminator = keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(1)])
    model = keras_gen.GAN(generator, discriminator, distributions.LearnedNormal(2), seed=0)
    penalties = [losses.R1(1.0), losses.R2(1.0), losses.GradientPenalty(), losses.DRAGAN(every=2)]
    model.compile("sgd", "sgd", loss=loss, penalties=penalties, ema_momentum=0.5, run_eagerly=True)
    for _ in range(2):
        logs = model.train_on_batch(X, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    assert np.isfinite(np.asarray(model.generate(3, seed=0), "float64")).all()
    assert np.isfinite(np.asarray(model.discriminate(X), "float64")).all()


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_the_average_of_a_generator_of_16_bits_has_32_bits(policy):
    """A change of 0.1 % would be lost in bfloat16, and the average would never move."""
    keras.config.set_dtype_policy(policy)
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(4, kernel_initializer="ones")])
    discriminator = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model = keras_gen.GAN(generator, discriminator, seed=0)
    model.compile("sgd", "sgd", ema_momentum=0.999, run_eagerly=True)
    generator.layers[0].kernel.assign(tf.zeros((2, 4)))
    model.optimizer.learning_rate = 0.0
    model.optimizer.iterations.assign(100_000)
    for _ in range(10):
        model.train_on_batch(X)
    average = model.averaged_generator.layers[0].kernel
    assert average.dtype == "float32"
    np.testing.assert_allclose(average, np.full((2, 4), 0.999**10), rtol=1e-6)


@pytest.mark.parametrize(
    "policies",
    [("float32", "bfloat16"), ("float16", "float64"), ("float64", "float32"), ("bfloat16",) * 2],
)
def test_the_two_networks_may_have_different_policies(policies):
    encoder, decoder = (networks_of(policy)[i] for i, policy in enumerate(policies))
    model = keras_gen.RegularizedAutoencoder(encoder, decoder)
    model.compile("sgd", loss="mse", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(X, return_dict=True)["loss"])
    assert np.isfinite(np.asarray(model.reconstruct(X), "float64")).all()


@pytest.mark.parametrize("policy", ["bfloat16", "float64"])
def test_the_dtype_of_a_model_or_a_prior_is_an_argument(kind, policy, images, tmp_path):
    """As in Keras, the dtype of a model does not change that of its layers."""
    keras.utils.set_random_seed(0)
    model = tiny(kind)
    parts = {"gan": ("generator", "discriminator")}.get(kind, ("encoder", "decoder"))
    more = {"posterior": model.posterior, "likelihood": model.likelihood} if kind == "vae" else {}
    prior = distributions.FittedMixture(LATENTS, 2, dtype=policy)
    if kind == "vq_vae":
        more = {"quantizer": model.quantizer, "likelihood": model.likelihood}
        prior = distributions.TransformerPrior((2, 2, 2), 6, width=4, dtype=policy)
    if kind == "hierarchical_vae":
        top_prior = distributions.FittedMixture(2, 2, dtype=policy)
        again, _ = tiny_hierarchical_vae(top_prior=top_prior, dtype=policy)
    else:
        again = type(model)(
            **{name: getattr(model, name) for name in parts},
            **more,
            prior=prior,
            dtype=policy,
        )
    again.compile(**({"loss": "mse"} if kind == "autoencoder" else {}), run_eagerly=True)
    again.fit(images[:8], **FIT)
    again.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    prior = getattr(loaded, "top_prior", loaded.prior)
    assert loaded.dtype_policy.name == prior.dtype_policy.name == policy
    np.testing.assert_array_equal(loaded.generate(2, seed=0), again.generate(2, seed=0))


@pytest.mark.parametrize(
    "optimizer",
    [keras.optimizers.Nadam(), keras.optimizers.Adam(amsgrad=True), keras.optimizers.Lamb()],
)
def test_other_optimizers_that_fail_in_bfloat16_are_refused_by_name(optimizer):
    model = keras_gen.RegularizedAutoencoder(*networks_of("bfloat16"))
    message = f"works in bfloat16. Received: {optimizer.name}.*Use the policy mixed_bfloat16"
    with pytest.raises(ValueError, match=message):
        model.compile(optimizer, loss="mse")


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd",
        "rmsprop",
        "adagrad",
        "adadelta",
        "adamax",
        "adafactor",
        "lion",
        "ftrl",
        "adam",
        "adamw",
    ],
)
def test_every_other_optimizer_of_keras_moves_weights_in_bfloat16(optimizer):
    model = keras_gen.RegularizedAutoencoder(*networks_of("bfloat16"))
    model.compile(optimizer, loss="mse", run_eagerly=True)
    model.optimizer.learning_rate = 0.1
    before = [np.asarray(variable, "float32") for variable in model.trainable_variables]
    for _ in range(3):
        assert np.isfinite(model.train_on_batch(X, return_dict=True)["loss"])
    after = [np.asarray(variable, "float32") for variable in model.trainable_variables]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert all(np.isfinite(weights).all() for weights in after)


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_large_gradients_of_16_bits_are_not_taken_for_infinite(policy):
    """Their squares are infinite in float16."""
    encoder, decoder = networks_of(policy)
    model = keras_gen.RegularizedAutoencoder(encoder, decoder)
    model.compile(keras.optimizers.SGD(1e-6), loss="mse", run_eagerly=True)
    decoder.layers[-1].bias.assign(tf.fill((4,), 2000.0))
    assert np.isfinite(model.train_on_batch(X, return_dict=True)["loss"])


def test_networks_of_the_package_output_float32_under_every_policy():
    for policy in POLICIES:
        keras.config.set_dtype_policy(policy)
        for network in (
            networks.mlp(IMAGE, (3,)),
            networks.conv_encoder(IMAGE, (3,), filters=(4,)),
            networks.conv_decoder((3,), IMAGE, filters=(4,)),
            networks.dcgan_generator(3, IMAGE, filters=(4,)),
            networks.dcgan_discriminator(IMAGE, filters=(4,)),
        ):
            assert network.outputs[0].dtype == "float32"
