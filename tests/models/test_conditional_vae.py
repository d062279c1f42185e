"""The VAE whose encoder, decoder or prior see labels."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE

import keras_gen
from keras_gen import distributions, networks, objectives

LABELS = np.arange(20) % 4
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def vae_of(*parts, **arguments):
    """A tiny VAE whose named parts, or all of them if none is named, take labels."""
    parts = parts or ("encoder", "decoder", "prior")
    classes = {part: 4 if part in parts else None for part in ("encoder", "decoder")}
    keras.utils.set_random_seed(0)
    defaults = {
        "encoder": networks.mlp(IMAGE, (6,), hidden=(5,), num_classes=classes["encoder"]),
        "decoder": networks.conv_decoder((3,), IMAGE, filters=(4,), num_classes=classes["decoder"]),
        "posterior": distributions.DiagonalNormal(3),
        "likelihood": distributions.Bernoulli(IMAGE),
        "seed": 0,
    }
    if "prior" in parts:
        defaults["prior"] = distributions.ConditionalNormal(3, num_classes=4, hidden_size=5)
    return keras_gen.VAE(**{**defaults, **arguments})


@pytest.mark.parametrize("parts", [(), ("encoder",), ("decoder",), ("prior",)])
def test_it_trains_saves_evaluates_and_generates(parts, images, tmp_path):
    """All parts at once as a graph."""
    model = vae_of(*parts)
    model.compile("adam", metrics=["mae"], run_eagerly=bool(parts))
    before = [variable.numpy() for variable in model.trainable_variables]
    history = model.fit(images, LABELS, validation_data=(images, LABELS), **FIT).history
    assert np.isfinite(history["val_loss"][-1])
    moved = [
        not np.array_equal(old, new.numpy())
        for old, new in zip(before, model.trainable_variables, strict=True)
    ]
    assert all(moved)
    dataset = tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(20)
    logs = model.evaluate(dataset, verbose=0, return_dict=True)
    assert logs["mae"] == pytest.approx(
        np.abs(images - model.predict((images, LABELS), verbose=0)).mean(), rel=1e-5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.generate(4, seed=1, condition=2), model.generate(4, seed=1, condition=2), atol=1e-6
    )
    model.fit(images, LABELS, **FIT)
    loaded.fit(images, LABELS, **FIT)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_kl_is_that_of_two_diagonal_normals_each_with_its_label(images):
    model = vae_of()
    model.compile("adam")
    logs = model.evaluate(images, LABELS, batch_size=20, verbose=0, return_dict=True)
    q = model.encode(images, LABELS)
    p = model.prior.distribution(LABELS)
    (mu, sigma), (beta, eta) = ((d.mean().numpy(), d.stddev().numpy()) for d in (q, p))
    kl = 0.5 * np.sum(
        np.log(eta**2 / sigma**2) + sigma**2 / eta**2 + (mu - beta) ** 2 / eta**2 - 1, axis=1
    )
    assert logs["kl_loss"] == pytest.approx(kl.mean(), rel=1e-4)
    assert not np.allclose(beta[0], beta[1])
    np.testing.assert_allclose(beta[0], beta[4])


def test_the_decoder_sees_the_label_of_its_example_in_every_sample(images):
    """A decoder that knows the label alone: its loss is the mean over labels for any samples."""
    latents, labels = keras.Input((3,)), keras.Input((), dtype="int32")
    logits = keras.layers.Embedding(4, 64, embeddings_initializer="random_normal")(labels)
    decoder = keras.Model([latents, labels], keras.layers.Reshape(IMAGE)(logits))
    model = vae_of(decoder=decoder)
    model.compile("adam", objective=objectives.ELBO(num_samples=3))
    logs = model.evaluate(images, LABELS, batch_size=20, verbose=0, return_dict=True)
    x_hat = 1 / (1 + np.exp(-decoder([tf.zeros((20, 3)), tf.constant(LABELS)]).numpy()))
    expected = -np.sum(
        images * np.log(x_hat) + (1 - images) * np.log(1 - x_hat), axis=(1, 2, 3)
    ).mean()
    assert logs["reconstruction_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_row_depends_on_its_seed_and_its_label_alone():
    model = vae_of()
    labels = np.array([0, 1, 2, 3, 1])
    rows = model.generate(5, seed=7, condition=labels).numpy()
    for i, label in enumerate(labels):
        np.testing.assert_allclose(
            model.generate(seed=[7 * 2**32 + i], condition=label)[0], rows[i], atol=1e-6
        )
    assert not np.allclose(model.generate(5, seed=7, condition=0)[1], rows[1])


@pytest.mark.parametrize(
    "compiled", [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}]
)
def test_labels_that_are_none_are_refused_with_advice(compiled, images):
    model = vae_of()
    model.compile("adam", **compiled)
    for x, y, expected in (
        (images, None, "Received: none. Call fit(x, labels), or use a data set of pairs."),
        (images, images, "integers of shape (batch,) from 0 to 3"),
        (images, LABELS.astype("float32"), "Received: shape (20,) of float32."),
        (images, LABELS + 1, "Received: 4 at index 3."),
        (tf.data.Dataset.from_tensor_slices(images).batch(4), None, "Received: none."),
        (images * 255, LABELS, "Expected data in [0, 1]"),
        (
            tf.data.Dataset.from_tensor_slices((images * 255, LABELS)).batch(4),
            None,
            "Expected data in [0, 1]",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(expected)):
            model.fit(x, y, verbose=0)


def test_missing_and_unexpected_labels_are_refused(images):
    conditional = vae_of()
    plain = vae_of("nothing")
    needed = r"`condition` of .* must be a label from 0 to 3 for each example"
    with pytest.raises(ValueError, match=needed):
        conditional.generate(3)
    for method in (conditional.reconstruct, conditional.score, conditional.encode):
        with pytest.raises(ValueError, match=needed):
            method(images)
    with pytest.raises(ValueError, match=r"`condition` of .* must be None, because"):
        plain.generate(3, condition=1)
    for method in (plain.reconstruct, plain.score, plain.encode):
        with pytest.raises(ValueError, match=r"`condition` of .* must be None, because"):
            method(images, LABELS)
    for inputs in (images[:2], (images, LABELS, LABELS)):
        with pytest.raises(ValueError, match="is conditional, so it must be called with a pair"):
            conditional(inputs)
    with pytest.raises(ValueError, match="must have the same number of classes"):
        vae_of(prior=distributions.ConditionalNormal(3, num_classes=5))
    with pytest.raises(ValueError, match="passes learned inputs through the encoder"):
        vae_of("encoder", prior=distributions.VampPrior(3))
    with pytest.raises(ValueError, match=r"depends on labels. Pass them: `distribution\(condition"):
        distributions.ConditionalNormal(3, num_classes=5).distribution()
    with pytest.raises(ValueError, match="`encoder` must have one input"):
        keras_gen.RegularizedAutoencoder(
            networks.mlp(IMAGE, (3,), num_classes=4), networks.mlp((3,), IMAGE)
        )


def test_two_replicas_and_mixed_precision(images, two_replicas):
    """Against one device without a graph."""
    losses = []
    for policy, scope in (
        ("float32", tf.distribute.get_strategy()),
        ("float32", two_replicas),
        ("mixed_float16", None),
    ):
        keras.config.set_dtype_policy(policy)
        with (scope or tf.distribute.get_strategy()).scope():
            model = vae_of()
            model.compile("adam", run_eagerly=not losses)
        dataset = tf.data.Dataset.from_tensor_slices((images[:16], LABELS[:16])).batch(8)
        losses.append(model.fit(dataset, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)
    np.testing.assert_allclose(losses[2], losses[0], rtol=2e-2)
