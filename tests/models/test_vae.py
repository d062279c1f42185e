import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from support import IMAGE, normalized, tiny_vae

import keras_gen
from keras_gen import distributions, networks, objectives
from keras_gen.fitting.data_check import DataCheck
from keras_gen.models.base import GenerativeModel

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tests")
class StudentT(distributions.Prior):
    """A prior of one's own, whose divergence has no closed form."""

    def distribution(self, condition=None):
        return tfd.Independent(tfd.StudentT(5.0, tf.zeros(self.event_size), 1.0), 1)


class Unready(distributions.Prior):
    def distribution(self, condition=None):
        return tfd.Normal(tf.zeros(self.event_size), 1.0)


def vae_of(encoder=None, decoder=None, **arguments):
    defaults = {
        "encoder": encoder or networks.mlp(IMAGE, (6,), hidden=(5,)),
        "decoder": decoder or networks.mlp((3,), IMAGE, hidden=(5,)),
        "posterior": distributions.DiagonalNormal(3),
        "likelihood": distributions.Bernoulli(IMAGE),
        "seed": 0,
    }
    return keras_gen.VAE(**{**defaults, **arguments})


def test_the_logs_are_the_formula_written_by_hand(images):
    model = vae_of(encoder=normalized(IMAGE, (6,)), decoder=normalized((3,), IMAGE))
    model.compile("adam", objective=objectives.ELBO(kl_weight=2.0))
    model.fit(images, verbose=0)
    logs = model.evaluate(images, batch_size=20, verbose=0, return_dict=True)
    mean, raw = np.split(model.encoder(images).numpy(), 2, axis=1)
    scale = 1e-4 + (1 - 1e-4) * np.log1p(np.exp(raw + np.log(np.e - 1)))
    kl = -0.5 * np.sum(np.log(scale**2) - mean**2 - scale**2 + 1, axis=1).mean()
    model.reset_metrics()
    noise = (
        tfd.Independent(tfd.Normal(tf.zeros((20, 3)), 1.0), 1)
        .sample(seed=model.noise_seed(training=False))
        .numpy()
    )
    x_hat = 1 / (1 + np.exp(-model.decoder(mean + scale * noise).numpy()))
    cross_entropy = -np.sum(
        images * np.log(x_hat) + (1 - images) * np.log(1 - x_hat), axis=(1, 2, 3)
    ).mean()
    assert logs["kl_loss"] == pytest.approx(kl, rel=1e-5)
    assert logs["reconstruction_loss"] == pytest.approx(cross_entropy, rel=1e-5)
    assert logs["elbo"] == pytest.approx(-cross_entropy - kl, rel=1e-5)
    l2 = 1e-2 * sum(
        np.square(v.numpy()).sum() for v in model.trainable_variables if v.path.endswith("kernel")
    )
    assert logs["regularization_loss"] == pytest.approx(l2, rel=1e-5)
    assert logs["loss"] == pytest.approx(cross_entropy + 2 * kl + l2, rel=1e-5)
    np.testing.assert_allclose(model.encode(images[:1]).mean(), mean[:1], atol=1e-5)
    np.testing.assert_allclose(
        model.reconstruct(images)[:1], model.reconstruct(images[:1]), atol=1e-5
    )
    np.testing.assert_allclose(model.decode(mean)[:1], model.decode(mean[:1]), atol=1e-5)


def test_a_step_is_that_of_a_loop_written_by_hand(images):
    model = vae_of(encoder=normalized(IMAGE, (6,)), decoder=normalized((3,), IMAGE))
    by_hand = vae_of(encoder=normalized(IMAGE, (6,)), decoder=normalized((3,), IMAGE))
    weights = np.random.default_rng(1).random(20).astype("float32")
    by_hand.set_weights(model.get_weights())
    model.compile(keras.optimizers.Adam(1e-2))
    by_hand.compile(keras.optimizers.Adam(1e-2))
    model.fit(images, sample_weight=weights, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        for rows in (slice(0, 8), slice(8, 16), slice(16, 20)):
            batch = images[rows]
            with tf.GradientTape() as tape:
                mean, raw = tf.split(by_hand.encoder(batch, training=True), 2, axis=1)
                scale = 1e-4 + (1 - 1e-4) * tf.math.softplus(
                    raw + np.log(np.e - 1).astype("float32")
                )
                standard = tfd.Independent(tfd.Normal(tf.zeros_like(mean), 1.0), 1)
                z = mean + scale * standard.sample(seed=by_hand.noise_seed(training=True))
                cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(
                    batch, by_hand.decoder(z, training=True)
                )
                kl = -0.5 * (tf.math.log(scale**2) - mean**2 - scale**2 + 1)
                per_example = tf.reduce_sum(cross_entropy, (1, 2, 3)) + tf.reduce_sum(kl, 1)
                loss = tf.reduce_mean(weights[rows] * per_example) + sum(
                    by_hand.encoder.losses + by_hand.decoder.losses
                )
            variables = by_hand.trainable_variables
            by_hand.optimizer.apply(tape.gradient(loss, variables), variables)
    for ours, theirs in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_a_prior_without_a_closed_form_trains_saves_and_generates(images, tmp_path):
    model = vae_of(prior=StudentT(3), likelihood=distributions.Normal(IMAGE, scale=0.5))
    model.compile("adam")
    model.fit(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.generate(5, seed=3), model.generate(5, seed=3), atol=1e-6)


def test_generate_has_one_row_per_seed():
    model, _ = tiny_vae()
    images = model.generate(6, seed=7).numpy()
    np.testing.assert_array_equal(model.generate(6, seed=7), images)
    np.testing.assert_allclose(model.generate(seed=7 * 2**32 + np.arange(6)), images, atol=1e-6)
    np.testing.assert_allclose(model.generate(2, seed=7), images[:2], atol=1e-6)
    assert not np.array_equal(model.generate(6, seed=8), images)
    assert not np.array_equal(model.generate(6), model.generate(6))
    np.testing.assert_allclose(
        model.decode(model.generate_rows(tf.constant([5], tf.int64))["latents"]),
        model.generate(seed=[5]),
    )


def test_seeds_that_are_not_given_are_random_and_depend_on_the_seed_of_keras():
    parts = {"encoder": networks.mlp(IMAGE, (6,)), "decoder": networks.mlp((3,), IMAGE)}

    def seeds():
        keras.utils.set_random_seed(3)
        models = [vae_of(**parts, seed=None) for _ in range(10)]
        assert all(model.seed_was_drawn for model in models)
        of_samples = [int(models[0].seeds(1)[0]) for _ in range(10)]
        return [model.seed for model in models], of_samples

    found = seeds()
    assert all(len(set(numbers)) == 10 for numbers in found)
    assert seeds() == found
    assert not vae_of(**parts).seed_was_drawn


@pytest.mark.parametrize(
    "seed", [3, [[1, 2]], [0.5], "12", tf.constant([0.5]), tf.constant([[1]])], ids=repr
)
def test_generate_rows_refuses_a_seed_that_is_no_vector_of_integers(seed):
    model, _ = tiny_vae()
    with pytest.raises(ValueError, match="`seed` must be a vector of integers"):
        model.generate_rows(seed)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_samples": 0, "seed": 1},
        {"num_samples": 3, "seed": -1},
        {"num_samples": 3, "seed": 2**31},
        {"num_samples": 3, "seed": [1, 2]},
        {"num_samples": None, "seed": None},
        {"num_samples": True, "seed": 1},
        {"num_samples": 1, "seed": True},
        {"num_samples": 1, "seed": 0.5},
        {"num_samples": None, "seed": [0.5, 1.5]},
        {"num_samples": None, "seed": [[1, 2]]},
        {"num_samples": None, "seed": ["a"]},
    ],
)
def test_generate_is_checked_and_shows_what_it_was_given(arguments):
    model, _ = tiny_vae()
    with pytest.raises(
        ValueError,
        match=re.escape(
            "`num_samples` must be a positive integer, and `seed` must be None or an integer in "
            "[0, 2**31). Or `seed` can be a vector"
        ),
    ) as caught:
        model.generate(**arguments)
    assert str(caught.value).endswith(
        "Received: num_samples={num_samples!r}, seed={seed!r}".format(**arguments)
    )


@pytest.mark.parametrize("seed", [[], np.zeros(0), np.zeros(0, np.int64)])
def test_no_seeds_give_no_samples(seed):
    model, _ = tiny_vae()
    assert model.generate(seed=seed).shape == (0, *IMAGE)


def test_latents_may_be_integers_and_must_be_numbers():
    model, _ = tiny_vae()
    ones = np.ones((2, 3), np.int64)
    np.testing.assert_array_equal(model.decode(ones), model.decode(ones.astype(np.float32)))
    for wrong in (ones == 1, ones.astype(str)):
        with pytest.raises(ValueError, match=r"Expected `latents` as numbers\. Received: dtype"):
            model.decode(wrong)
    with pytest.raises(ValueError, match=r"a list that TensorFlow cannot convert \(.*rectangular"):
        model.decode([[1.0, 2.0, 3.0], [1.0]])


def test_a_new_attribute_deletes_the_graphs_of_the_methods():
    model, _ = tiny_vae()
    graphs = model.method_graphs
    model.stop_training = True
    model._private = 1
    model.seed = model.seed
    assert model.method_graphs is graphs
    model.seed = model.seed + 1
    assert model.method_graphs is not graphs


class Own(GenerativeModel):
    """A model of one's own, without methods."""

    loss_parts = ("own_loss",)


def test_a_model_of_ones_own_says_what_it_must_implement():
    model = Own(DataCheck((2,)))
    calls = {"decode": lambda: model.decode(np.ones((1, 2))), "signatures": model.signatures}
    for name, call in calls.items():
        with pytest.raises(NotImplementedError, match=f"Own must implement `{name}`"):
            call()
    with pytest.raises(ValueError, match=r"Expected a model with an encoder\. Received: Own"):
        model.latents(np.ones((1, 2)))


@pytest.mark.parametrize("method", ["score", "log_weights"])
def test_no_samples_are_refused(method, images):
    model, _ = tiny_vae()
    with pytest.raises(
        ValueError,
        match=r"`num_samples` of VAE must be an integer of at least 1\. Received: num_samples=0",
    ):
        getattr(model, method)(images, num_samples=0)


def test_encode_is_the_posterior_and_reconstruct_its_mean(images):
    model, _ = tiny_vae()
    posterior = model.encode(images)
    assert isinstance(posterior, tfd.Distribution)
    assert (posterior.batch_shape, posterior.event_shape) == ((20,), (3,))
    np.testing.assert_allclose(model.reconstruct(images), model.decode(posterior.mean()), atol=1e-6)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), model.reconstruct(images), atol=1e-6
    )


@pytest.mark.parametrize("argument", ["metrics", "weighted_metrics"])
def test_metrics_see_the_data_and_their_reconstruction(argument, images):
    model, _ = tiny_vae()
    model.compile("adam", **{argument: ["mse"]})
    logs = model.evaluate(images, batch_size=8, verbose=0, return_dict=True)
    assert logs["mse"] == pytest.approx(
        np.mean((images - model.reconstruct(images)) ** 2), rel=1e-5
    )


@pytest.mark.parametrize("loaded", [False, True])
def test_the_reconstruction_is_computed_only_for_metrics(loaded, images, tmp_path, monkeypatch):
    for metrics in (None, ["mse"]):
        model = vae_of()
        model.compile("adam", metrics=metrics, run_eagerly=True)
        if loaded:
            model.save(tmp_path / "model.keras")
            model = keras.saving.load_model(tmp_path / "model.keras")
            model.run_eagerly = True
        calls = []
        call = keras_gen.VAE.reconstruct

        def counted(self, *arguments, call=call, calls=calls):
            calls.append(arguments)
            return call(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(keras_gen.VAE, "reconstruct", counted)
            model.evaluate(images, verbose=0)
        assert bool(calls) == bool(metrics)


def test_the_logs_are_the_loss_and_its_terms(images):
    model = vae_of()
    model.compile("adam")
    history = model.fit(images, validation_data=images, verbose=0).history
    terms = {"elbo", "kl_loss", "loss", "reconstruction_loss", "regularization_loss"}
    assert history.keys() == terms | {f"val_{term}" for term in terms}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"encoder": networks.mlp(IMAGE, (5,))},
            "`encoder` must have outputs of shape (6,), the `parameter_size` of `DiagonalNormal`.",
        ),
        (
            {"encoder": networks.mlp((8, 8), (6,))},
            "`encoder` must have inputs of shape (8, 8, 1), the `event_shape` of `Bernoulli`.",
        ),
        (
            {"decoder": networks.mlp((2,), IMAGE)},
            "`decoder` must have inputs of shape (3,), the `event_size` of `DiagonalNormal`.",
        ),
        (
            {"decoder": networks.mlp((3,), (64,))},
            "`decoder` must have outputs of shape (8, 8, 1), the `parameter_shape` of `Bernoulli`.",
        ),
        (
            {"prior": distributions.StandardNormal(2, name="prior2")},
            "`prior` must be over 3 latents. Received: prior2 with event_size=2.",
        ),
        ({"prior": tfd.Normal(0.0, 1.0)}, "`prior` must be a keras_gen.distributions.Prior."),
        (
            {"decoder": networks.mlp((3,), IMAGE, output_activation="sigmoid")},
            "`decoder` must output logits, which can be any numbers.",
        ),
        (
            {"prior": Unready(3)},
            "tfd.Independent(distribution, 1) turns a batch dimension into an event dimension.",
        ),
        ({"posterior": "diagonal"}, "`posterior` must be a keras_gen.distributions.Posterior"),
        (
            {"likelihood": tfd.Normal(0.0, 1.0)},
            "`likelihood` must be a keras_gen.distributions.Likelihood",
        ),
        ({"seed": -1}, "`seed` must be an integer in [0, 2**31) or None. Received: seed=-1"),
        ({"seed": 2**31}, "`seed` must be an integer in [0, 2**31) or None. Received: seed=214748"),
        ({"seed": True}, "`seed` must be an integer in [0, 2**31) or None. Received: seed=True"),
    ],
)
def test_components_are_checked(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        vae_of(**arguments)


def test_a_flow_posterior_trains_its_weights_saves_them_and_exports(images, tmp_path):
    flow = distributions.InverseAutoregressiveNormal(3, hidden_size=4, context_size=2)
    model = vae_of(encoder=networks.mlp(IMAGE, (8,), hidden=(5,)), posterior=flow)
    with pytest.raises(ValueError, match="`posterior` must be a layer without weights for IWAE"):
        model.compile("adam", objective=objectives.IWAE(5, doubly_reparameterized=True))
    model.compile("adam")
    before = [variable.numpy() for variable in flow.variables]
    model.fit(images, epochs=2, batch_size=8, validation_data=images, verbose=0)
    assert all(
        not np.array_equal(old, variable.numpy())
        for old, variable in zip(before, flow.variables, strict=True)
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )
    assert loaded.evaluate(images, verbose=0) == model.evaluate(images, verbose=0)
    model.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["encode"](
        inputs=tf.constant(images)
    )
    np.testing.assert_allclose(served["latents"], flow.point(model.encode(images)), atol=1e-6)


def test_the_weight_of_the_kl_continues_where_it_stopped(images, tmp_path):
    schedule = objectives.ELBO(kl_weight=objectives.LinearWarmUp(steps=6))
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    unbroken = vae_of()
    half = vae_of()
    half.set_weights(unbroken.get_weights())
    for model in (unbroken, half):
        model.compile("adam", objective=schedule)
    unbroken.fit(images, epochs=2, **fit)
    half.fit(images, **fit)
    half.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    resumed.fit(images, **fit)
    for ours, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed.objective.kl_weight(resumed.optimizer.iterations) == 1


@keras.saving.register_keras_serializable("tests")
class LearnedScale(distributions.Posterior):
    """A posterior of one's own: N(μ(x), s² I) with one learned s."""

    def __init__(self, event_size):
        super().__init__(event_size)
        self.raw_scale = self.add_weight((), "zeros", name="raw_scale", autocast=False)

    @property
    def parameter_size(self):
        return self.event_size

    def __call__(self, parameters):
        scale = tf.math.softplus(tf.convert_to_tensor(self.raw_scale)) + 1e-3
        return tfd.Independent(tfd.Normal(tf.cast(parameters, tf.float32), scale), 1)


@keras.saving.register_keras_serializable("tests")
class LearnedWidth(distributions.Likelihood):
    """A likelihood of one's own: a t distribution with one learned scale."""

    def __init__(self, event_shape, df=3.0):
        super().__init__(event_shape)
        self.df = df
        self.raw_width = self.add_weight((), "zeros", name="raw_width", autocast=False)

    def __call__(self, parameters):
        width = tf.exp(tf.convert_to_tensor(self.raw_width))
        pixels = tfd.StudentT(self.df, tf.cast(parameters, tf.float32), width)
        return tfd.Independent(pixels, len(self.event_shape))


def vae_of_ones_own():
    return vae_of(
        encoder=networks.mlp(IMAGE, (3,), hidden=(5,)),
        posterior=LearnedScale(3),
        likelihood=LearnedWidth(IMAGE, df=5.0),
        prior=distributions.LearnedNormal(3),
    )


def test_keras_tracks_trains_and_counts_the_weights_of_all_parts(images):
    model = vae_of_ones_own()
    parts = [model.posterior, model.likelihood, model.encoder, model.decoder, model.prior]
    assert model.layers == parts
    in_order = [id(variable) for part in parts for variable in part.trainable_variables]
    assert [id(variable) for variable in model.trainable_variables] == in_order
    assert model.count_params() == sum(part.count_params() for part in parts)
    model.compile("adam")
    before = model.get_weights()
    model.fit(images, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert not np.array_equal(old, new)


def test_a_frozen_posterior_stays_as_it_is(images):
    model = vae_of_ones_own()
    model.posterior.trainable = False
    model.compile("adam")
    model.fit(images, verbose=0)
    assert model.posterior.raw_scale.numpy() == 0
    assert model.likelihood.raw_width.numpy() != 0


def test_posteriors_and_likelihoods_of_ones_own_are_saved_with_their_weights(images, tmp_path):
    model = vae_of_ones_own()
    model.compile("adam")
    model.fit(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.posterior) == "LearnedScale(event_size=3)"
    assert repr(loaded.likelihood) == "LearnedWidth(event_shape=(8, 8, 1), df=5.0)"
    np.testing.assert_allclose(loaded.score(images), model.score(images), rtol=1e-6)
    for each in (model, loaded):
        each.fit(images, verbose=0, shuffle=False)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@keras.saving.register_keras_serializable("tests")
class Tempered(keras_gen.VAE):
    """A model of one's own, with a variable of its own."""

    def __init__(self, encoder, decoder, posterior, likelihood, prior=None, seed=None, **kwargs):
        super().__init__(encoder, decoder, posterior, likelihood, prior, seed, **kwargs)
        self.temperature = self.add_weight((), "ones", name="temperature", trainable=False)


def test_a_model_of_ones_own_has_variables_of_its_own(images, tmp_path):
    """One variable, as many as a file of version 0.1.0 has for this likelihood."""
    model = Tempered(
        networks.mlp(IMAGE, (6,)),
        networks.mlp((3,), IMAGE),
        distributions.DiagonalNormal(3),
        distributions.Normal(IMAGE, "shared"),
        seed=0,
    )
    model.compile("adam")
    model.fit(images, verbose=0)
    model.temperature.assign(3.0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class BuiltLater(LearnedScale):
    """A posterior that makes its weight in `build`, as Keras layers may."""

    def __init__(self, event_size):
        distributions.Posterior.__init__(self, event_size)

    def build(self, input_shape):
        self.raw_scale = self.add_weight((), "zeros", name="raw_scale", autocast=False)


def test_a_posterior_that_overrides_build_is_built_by_the_model(images):
    model = vae_of(encoder=networks.mlp(IMAGE, (3,)), posterior=BuiltLater(3))
    model.compile("adam")
    model.fit(images, verbose=0)
    assert model.posterior.raw_scale.numpy() != 0


def test_a_keras_loss_is_refused():
    with pytest.raises(ValueError, match="A VAE minimizes an objective, not a Keras loss"):
        vae_of().compile("adam", loss="mse")
    with pytest.raises(ValueError, match="A VAE minimizes an objective, not a Keras loss"):
        vae_of().compile("adam", objective="elbo")


def test_a_posterior_with_weights_has_no_doubly_reparameterized_gradient():
    objective = objectives.IWAE(2, doubly_reparameterized=True)
    with pytest.raises(ValueError, match="`posterior` must be a layer without weights for IWAE"):
        vae_of_ones_own().compile("adam", objective=objective)


def test_only_training_fits_the_optimal_scale(images):
    model = vae_of(likelihood=distributions.Normal(IMAGE, "optimal"))
    model.compile("adam", run_eagerly=True)
    before = np.array(model.likelihood.variance)
    model.test_on_batch(images)
    np.testing.assert_array_equal(model.likelihood.variance, before)
    model.train_on_batch(images)
    assert not np.allclose(model.likelihood.variance, before)


def test_the_score_is_the_negative_elbo_against_quadrature(images):
    """One latent: the expectation by Gauss and Hermite's rule, in double precision."""
    model = vae_of(
        encoder=networks.mlp(IMAGE, (2,), hidden=(5,)),
        decoder=networks.mlp((1,), IMAGE, hidden=(5,)),
        posterior=distributions.DiagonalNormal(1),
    )
    mean, raw = np.split(model.encoder(images).numpy().astype(float), 2, axis=1)
    scale = 1e-4 + (1 - 1e-4) * np.log1p(np.exp(raw + np.log(np.e - 1)))
    kl = -0.5 * (np.log(scale**2) - mean**2 - scale**2 + 1)[:, 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    z = (mean + scale * nodes).astype("float32")  # [batch, nodes]
    logits = model.decoder(z.reshape(-1, 1)).numpy().astype(float).reshape(20, 200, -1)
    x = images.reshape(20, 1, -1)
    cross_entropy = np.sum(np.logaddexp(0, logits) - x * logits, axis=-1) @ weights / weights.sum()
    parts = np.split(images, 10)  # so many samples of all images would take half a gigabyte
    scores = np.concatenate([model.score(part, num_samples=40_000) for part in parts])
    np.testing.assert_allclose(scores, cross_entropy + kl, atol=0.03)
    assert np.std(cross_entropy + kl) > 0.1
    with pytest.raises(ValueError, match=r"Expected `x` of shape \(batch, 8, 8, 1\)"):
        model.score(images[0])


@pytest.mark.parametrize(
    "arguments",
    [
        {
            "posterior": distributions.FullCovarianceNormal(3),
            "prior": distributions.NormalMixture(3, 2),
        },
        {"posterior": distributions.InverseAutoregressiveNormal(3)},
        {"prior": distributions.ConditionalNormal(3, num_classes=4)},
    ],
    ids=["full-mixture", "flow", "conditional"],
)
def test_scores_are_the_same_alone_and_among_others_and_the_elbo_in_the_mean(arguments, images):
    posterior = arguments.get("posterior", distributions.DiagonalNormal(3))
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(5,))
    model = vae_of(encoder=encoder, **arguments)
    model.compile("adam", objective=objectives.ELBO(num_samples=500))
    labels = (np.arange(20) % 4,) if model.num_classes else ()
    scores = model.score(images, *labels).numpy()
    np.testing.assert_array_equal(model.score(images, *labels), scores)
    alone = [model.score(images[i : i + 1], *(y[i : i + 1] for y in labels))[0] for i in range(4)]
    np.testing.assert_allclose(alone, scores[:4], rtol=1e-6)
    repeated = model.score(np.repeat(images[:1], 3, axis=0), *(y[:3] * 0 for y in labels))
    np.testing.assert_allclose(repeated, scores[:1].repeat(3), rtol=1e-6)
    elbo = model.evaluate(images, *labels, verbose=0, return_dict=True)["elbo"]
    assert float(np.mean(model.score(images, *labels, num_samples=500))) == pytest.approx(
        -elbo, abs=0.15
    )


def test_an_objective_that_returns_a_dictionary_as_in_0_1_0_is_refused(images):
    class OfOldForm(objectives.Objective):
        def __call__(self, batch):
            return {"loss": batch.posterior.log_prob(batch.posterior.sample())}

    model = vae_of()
    model.compile("adam", objective=OfOldForm(), run_eagerly=True)
    message = (
        r"`objective` must return keras_gen\.objectives\.Terms\. Received: a dict from OfOldForm"
    )
    with pytest.raises(ValueError, match=message):
        model.fit(images, verbose=0)


def vae_with_random_layers():
    """A VAE whose networks would compute something else in training mode."""
    layers = keras.layers
    posterior = distributions.DiagonalNormal(2)
    likelihood = distributions.Normal((4,), missing=True)
    encoder = keras.Sequential(
        [
            keras.Input((4,)),
            networks.MissingAsZero(),
            layers.Dense(6),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(posterior.parameter_size),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(6),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(4),
        ]
    )
    return keras_gen.VAE(encoder, decoder, posterior, likelihood, seed=0)


def test_methods_other_than_fit_do_not_compute_in_training_mode():
    """The same call gives the same result, for an example alone and among others."""
    model = vae_with_random_layers()
    model.compile("adam", run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    holes = x.copy()
    holes[:, 1] = np.nan
    seeds = np.arange(5)
    calls = {
        "encode": lambda rows: model.encode(x[rows]).mean(),
        "latents": lambda rows: model.latents(x[rows]),
        "decode": lambda rows: model.decode(x[rows, :2]),
        "reconstruct": lambda rows: model.reconstruct(x[rows]),
        "call": lambda rows: model(x[rows]),
        "predict": lambda rows: model.predict(x[rows], verbose=0),
        "score": lambda rows: model.score(x[rows]),
        "score_per_feature": lambda rows: model.score_per_feature(x[rows]),
        "generate": lambda rows: model.generate(seed=seeds[rows]),
        "impute": lambda rows: model.impute(holes[rows], num_samples=3, seed=seeds[rows]),
        "imputations": lambda rows: np.moveaxis(
            model.impute(holes[rows], num_samples=3, num_imputations=2, seed=seeds[rows]), 1, 0
        ),
    }
    before = model.get_weights()
    for name, call in calls.items():
        together = np.asarray(call(slice(None)))
        np.testing.assert_allclose(call(slice(None)), together, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(call(slice(0, 2)), together[:2], rtol=1e-4, err_msg=name)
    weights = model.log_weights(x, num_samples=2, seed=(0, 1))
    np.testing.assert_array_equal(weights, model.log_weights(x, num_samples=2, seed=(0, 1)))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
