"""Densities fitted to the latents of an autoencoder and a VAE, from which `generate` samples."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, LATENTS, conditional_vae, tiny, tiny_autoencoder, tiny_vae

import keras_gen
from keras_gen import distributions
from keras_gen.distributions import FittedFlow, FittedMixture, StandardNormal
from keras_gen.evaluation import summary

SEEDS = np.arange(50)


def fitted_flow(num_steps=5):
    """Return a quick flow. The models pass it latents and a seed."""

    class Quick(FittedFlow):
        def fit(self, latents, seed=0):
            super().fit(latents, seed, num_steps)

    return keras.saving.register_keras_serializable("tests_densities")(Quick)(LATENTS, 1, 4)


@pytest.fixture(params=["mixture", "flow"])
def density(request):
    return FittedMixture(LATENTS, 2) if request.param == "mixture" else fitted_flow()


@pytest.fixture(params=["autoencoder", "vae"])
def model(request):
    return tiny(request.param, run_eagerly=True)


def arrays(model):
    return [weight.numpy() for weight in model.trainable_weights]


def test_generate_uses_the_density_also_saved_and_served(model, density, images, tmp_path):
    model.fit_latent_density(images, density)
    assert model.latent_distribution is density
    rows = model.generate_rows(SEEDS)
    np.testing.assert_allclose(rows["latents"], density.sample_rows(SEEDS), atol=1e-5)
    assert not np.allclose(rows["latents"], StandardNormal(LATENTS).sample_rows(SEEDS), atol=0.1)
    np.testing.assert_allclose(model.generate(seed=SEEDS), rows["outputs"], atol=1e-6)
    np.testing.assert_allclose(rows["outputs"], model.decode(rows["latents"]), atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.latent_distribution) == repr(density)
    np.testing.assert_allclose(loaded.generate(seed=SEEDS), rows["outputs"], atol=1e-6)
    loaded.export(tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["generate"](
        seed=tf.constant(SEEDS, tf.int64)
    )
    for name, values in rows.items():
        np.testing.assert_allclose(served[name], values, atol=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "decode", lambda latents: latents)
        found = summary._prior_samples(model, 5, 0, None)
    np.testing.assert_allclose(found, density.sample_rows(np.arange(5)), atol=1e-5)


def test_a_density_of_a_vae_changes_neither_the_training_nor_the_likelihoods(images):
    plain, fitted = tiny("vae", run_eagerly=True), tiny("vae", run_eagerly=True)
    before = fitted.generate(4, seed=0).numpy()
    fitted.fit_latent_density(images, FittedMixture(LATENTS, 2))
    assert repr(fitted.prior) == repr(plain.prior)
    assert not np.allclose(fitted.generate(4, seed=0), before)
    seed = tf.constant([1, 2])
    for call in (
        lambda vae: vae.log_weights(images[:4], num_samples=3, seed=seed),
        lambda vae: vae.score(images[:4]),
        lambda vae: vae.evaluate(images, batch_size=8, verbose=0),
        lambda vae: vae.fit(images, batch_size=8, shuffle=False, verbose=0).history["loss"],
    ):
        np.testing.assert_array_equal(call(fitted), call(plain))
    for a, b in zip(arrays(fitted), arrays(plain), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(fitted.optimizer.variables) == len(plain.optimizer.variables)


def test_a_density_of_a_vae_is_fitted_to_samples_of_the_posteriors(images):
    """One component has the covariance of the means plus the mean of the posterior variances."""
    vae = tiny("vae", run_eagerly=True)
    weight = vae.encoder.trainable_weights[-2]  # the kernel of the last layer
    weight.assign(20 * weight)
    many = np.tile(images, (200, 1, 1, 1))
    vae.fit_latent_density(many, FittedMixture(LATENTS, 1))
    posterior = vae.encode(images)
    means = posterior.mean().numpy()
    variances = posterior.variance().numpy().mean(axis=0)
    found = vae.density.distribution().components_distribution
    np.testing.assert_allclose(found.mean()[0], means.mean(axis=0), atol=0.06)
    expected = np.cov(means.T, bias=True) + np.diag(variances)
    np.testing.assert_allclose(found.covariance()[0], expected, rtol=0.1, atol=0.06)
    assert variances.max() > 0.5  # so that a fit to the means would fail


def test_each_batch_of_a_data_set_has_its_own_noise_and_a_second_fit_the_same(images):
    vae = tiny("vae", run_eagerly=True)
    received = []

    class Recorder(FittedMixture):
        def fit(self, latents, seed=0):
            received.append((latents, seed))

    dataset = tf.data.Dataset.from_tensor_slices(images[:8]).batch(8).repeat(2)
    for data in (dataset, dataset, dataset.map(lambda x: (x, x))):
        vae.fit_latent_density(data, Recorder(LATENTS))
    (first, seed), (second, _), (third, _) = received
    assert seed == vae.seed
    assert first.shape == (16, LATENTS)
    assert np.abs(first[:8] - first[8:]).min() > 1e-4
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_a_density_replaces_the_earlier_one_in_the_model_and_in_its_file(model, images, tmp_path):
    model.fit_latent_density(images, 2)
    first = model.latent_distribution
    generated = [model.generate(4, seed=0).numpy()]
    for density in (fitted_flow(), FittedMixture(LATENTS, 3), FittedMixture(LATENTS, 3)):
        model.fit_latent_density(images, density)
        generated.append(model.generate(4, seed=0).numpy())
    assert not np.allclose(generated[0], generated[1])
    assert not np.allclose(generated[1], generated[2])
    np.testing.assert_array_equal(generated[2], generated[3])
    assert not any(layer is first for layer in model.layers)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights)
    np.testing.assert_allclose(loaded.generate(4, seed=0), generated[3], atol=1e-6)
    loaded.fit(images, batch_size=8, verbose=0)


def test_without_a_density_the_present_one_is_fitted_again(model, images):
    model.fit_latent_density(images, num_components=3)
    present = model.latent_distribution
    before = model.generate(4, seed=0).numpy()
    model.fit_latent_density(images[:10])
    assert model.latent_distribution is present
    assert not np.allclose(model.generate(4, seed=0), before)


def test_a_density_needs_examples(model, images):
    with pytest.raises(ValueError, match="at least one example"):
        model.fit_latent_density(images[:0])


def test_a_fit_that_fails_changes_nothing(model, images):
    model.fit_latent_density(images, 2)
    present = model.latent_distribution
    before = model.generate(4, seed=0).numpy()
    with pytest.raises(ValueError, match="where n is at least 30, the number of components"):
        model.fit_latent_density(images, FittedMixture(LATENTS, 30))
    assert model.latent_distribution is present
    np.testing.assert_array_equal(model.generate(4, seed=0), before)


def test_a_density_of_the_constructor_is_saved_and_fitted_in_place(images, tmp_path):
    parts = tiny_vae()[0]
    density = FittedMixture(LATENTS, 2)
    vae = keras_gen.VAE(
        parts.encoder, parts.decoder, parts.posterior, parts.likelihood, density=density, seed=0
    )
    np.testing.assert_allclose(
        np.std(vae.generate_rows(np.arange(500))["latents"]), 1, atol=0.1
    )  # not fitted yet: N(0, I)
    vae.fit_latent_density(images)
    assert vae.density is density
    vae.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.generate(4, seed=0), vae.generate(4, seed=0), atol=1e-6)


def test_a_training_with_a_density_resumes_bit_for_bit(images, tmp_path):
    def train(epochs, folder):
        keras.utils.set_random_seed(0)
        parts = tiny_vae()[0]
        vae = keras_gen.VAE(
            parts.encoder,
            parts.decoder,
            parts.posterior,
            parts.likelihood,
            density=FittedMixture(LATENTS, 2),
            seed=0,
        )
        vae.compile("adam", run_eagerly=True)
        # as during a run, which fits the density before it writes images of samples
        fit = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: vae.fit_latent_density(images)
        )
        callbacks = [fit, keras_gen.Checkpoints(folder)]
        vae.fit(images, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)
        return vae

    uninterrupted = train(3, tmp_path / "a")
    train(1, tmp_path / "b")
    resumed = train(3, tmp_path / "b")
    for a, b in zip(uninterrupted.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_density_under_mixed_precision_and_on_two_replicas(images, two_replicas):
    keras.config.set_dtype_policy("mixed_float16")
    vae = tiny("vae", run_eagerly=True)
    vae.fit_latent_density(images, fitted_flow())
    assert {weight.dtype for weight in vae.density.weights} == {"float32"}
    assert np.all(np.isfinite(vae.generate(4, seed=0)))
    keras.config.set_dtype_policy("float32")
    with two_replicas.scope():
        vae = tiny("vae")
        mixture, flow = FittedMixture(LATENTS, 2), fitted_flow()
    for density in (mixture, flow):
        vae.fit_latent_density(images, density)
        rows = vae.generate_rows(SEEDS)["latents"]
        np.testing.assert_allclose(rows, density.sample_rows(SEEDS), atol=1e-5)


def test_conditional_models_and_other_densities_are_refused(images):
    vae, _ = conditional_vae()
    message = (
        r"needs a model without labels\. Received: .* Use a prior that depends on labels: Cond"
    )
    with pytest.raises(ValueError, match=message):
        vae.fit_latent_density(images)
    with pytest.raises(ValueError, match=message):
        keras_gen.VAE(
            vae.encoder,
            vae.decoder,
            vae.posterior,
            vae.likelihood,
            density=FittedMixture(LATENTS),
        )
    parts = tiny_vae()[0]
    for density in (StandardNormal(LATENTS), FittedMixture(LATENTS + 1), "mixture"):
        with pytest.raises(ValueError, match=r"`density` must be a keras_gen\.dist.*FittedD"):
            keras_gen.VAE(
                parts.encoder, parts.decoder, parts.posterior, parts.likelihood, density=density
            )
        with pytest.raises(ValueError, match=r"`density` must be a keras_gen\.dist.*FittedD"):
            parts.fit_latent_density(images, density)
    autoencoder, _ = tiny_autoencoder()
    with_prior = keras_gen.RegularizedAutoencoder(
        autoencoder.encoder, autoencoder.decoder, distributions.StandardNormal(LATENTS)
    )
    with pytest.raises(ValueError, match="already has the prior standard_normal"):
        with_prior.fit_latent_density(images)


def test_images_have_the_shape_of_the_data(images):
    vae = tiny("vae", run_eagerly=True)
    vae.fit_latent_density(images, fitted_flow())
    assert vae.generate(3).shape == (3, *IMAGE)
