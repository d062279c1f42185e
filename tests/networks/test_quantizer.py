"""`VectorQuantizer` against NumPy: nearest vectors, gradients, moving averages, restarts."""

import re

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_gen.networks import VectorQuantizer

MODES = ["eager", "graph", "XLA"]


def built(num_codes=5, size=6, vectors=None, **arguments):
    quantizer = VectorQuantizer(num_codes, **arguments)
    quantizer.build((None, size))
    if vectors is None:
        vectors = np.random.default_rng(1).normal(size=quantizer.vectors.shape)
    quantizer.vectors.assign(vectors)
    return quantizer


def nearest(z, vectors):
    """Codes and vectors by loops, `[n, codebooks]` and `[n, size]`."""
    num_codebooks, _, size = vectors.shape
    codes = np.zeros((len(z), num_codebooks), int)
    found = np.zeros(z.shape)
    for row in range(len(z)):
        for book in range(num_codebooks):
            part = slice(book * size, (book + 1) * size)
            squares = [np.sum((z[row, part] - vector) ** 2) for vector in vectors[book]]
            codes[row, book] = int(np.argmin(squares))
            found[row, part] = vectors[book, codes[row, book]]
    return codes, found


def in_mode(function, mode):
    if mode == "eager":
        return function
    return tf.function(function, jit_compile=mode == "XLA")


# === Codes ===


@pytest.mark.parametrize("num_codebooks", [1, 2, 3])
def test_codes_are_those_of_the_nearest_vectors(num_codebooks):
    quantizer = built(num_codebooks=num_codebooks)
    z = np.random.default_rng(0).normal(size=(4, 3, 7, 6))
    codes, vectors = nearest(z.reshape(-1, 6), quantizer.vectors.numpy().astype("float64"))
    found = quantizer.encode(z)
    assert found.dtype == tf.int64
    np.testing.assert_array_equal(found, codes.reshape(4, 3, 7, num_codebooks))
    np.testing.assert_allclose(quantizer.decode(found), vectors.reshape(z.shape), rtol=1e-6)
    np.testing.assert_allclose(quantizer(z), vectors.reshape(z.shape), rtol=1e-6)


def test_of_equally_near_vectors_the_first_one_is_taken():
    vectors = np.array([[[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [1.0, 0.0]]])
    quantizer = built(4, 2, vectors)
    z = [[0.0, 0.0], [1.0, 0.0], [0.0, -5.0], [0.0, 2.0]]
    assert quantizer.encode(z).numpy().ravel().tolist() == [0, 0, 0, 2]


def test_the_value_is_exactly_that_of_the_codebook():
    """z + (e − z) would differ from e in the last bits."""
    quantizer = built(vectors=1e-3 * np.random.default_rng(0).normal(size=(1, 5, 6)))
    z = np.random.default_rng(0).normal(size=(50, 6)).astype("float32")
    expected = quantizer.vectors.numpy()[0][quantizer.encode(z).numpy()[:, 0]]
    np.testing.assert_array_equal(quantizer(z), expected)
    np.testing.assert_array_equal(quantizer.decode(quantizer.encode(z)), expected)


def test_latents_and_vectors_are_not_rounded_in_a_layer_of_mixed_precision():
    vectors = np.float32([[[0.9992], [1.0014]]])
    quantizer = built(2, 1, vectors, dtype="mixed_float16")
    found = quantizer(np.float32([[1.00045]]))  # float16 would round it to 1
    np.testing.assert_array_equal(found, vectors[0, 1:])


def test_a_codebook_starts_with_uniform_numbers_of_at_most_1_over_the_number_of_codes():
    quantizer = VectorQuantizer(20)
    quantizer.build((None, 100))
    scaled = 20 * quantizer.vectors.numpy().ravel()
    assert scipy.stats.kstest(scaled, "uniform", (-1, 2)).pvalue > 1e-3


# === Gradients ===


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("codebook", ["gradient", "moving_average"])
def test_gradients_are_those_of_the_closed_forms(codebook, mode):
    """With L = Σ w·e + the losses: ∂L/∂z = w + 2β(z − e), and ∂L/∂e_k = Σ 2(e_k − z)."""
    quantizer = built(codebook=codebook, commitment=0.3, num_codebooks=2)
    random = np.random.default_rng(0)
    z, w = (random.normal(size=(10, 6)).astype("float32") for _ in range(2))
    vectors = quantizer.vectors.numpy()

    def gradients(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            found = quantizer.nearest(z)
            loss = tf.reduce_sum(found.vectors * w)
            losses = found.codebook_loss, found.commitment_loss
            loss += tf.reduce_sum(losses[0]) + tf.reduce_sum(losses[1])
        variables = quantizer.trainable_variables
        return tape.gradient(loss, [z, *(each.value for each in variables)]), losses

    (of_z, *of_vectors), losses = in_mode(gradients, mode)(tf.constant(z))
    codes, e = nearest(z, vectors)
    np.testing.assert_allclose(of_z, w + 2 * 0.3 * (z - e), rtol=1e-4, atol=1e-5)
    squared = np.sum((z - e) ** 2, axis=1)
    np.testing.assert_allclose(losses[1], 0.3 * squared, rtol=1e-4)
    if codebook == "moving_average":
        assert not of_vectors
        np.testing.assert_array_equal(losses[0], np.zeros(10))
        return
    np.testing.assert_allclose(losses[0], squared, rtol=1e-4)
    expected = np.zeros(vectors.shape)
    for row in range(10):
        for book in range(2):
            part = slice(3 * book, 3 * book + 3)
            k = codes[row, book]
            expected[book, k] += 2 * (vectors[book, k] - z[row, part])
    np.testing.assert_allclose(of_vectors[0], expected, rtol=1e-4, atol=1e-5)


# === Moving averages and restarts ===


@pytest.mark.parametrize("mode", MODES)
def test_moving_averages_are_those_of_the_formula(mode):
    quantizer = built(4, 6, num_codebooks=2, decay=0.8, restart_below=0.0)
    vectors = quantizer.vectors.numpy().astype("float64")
    number, total = np.zeros((2, 4)), np.zeros(vectors.shape)
    random = np.random.default_rng(0)

    def update(z, weights):
        quantizer.update(z, quantizer.encode(z), weights, (0, 0), True)

    update = in_mode(update, mode)
    for step in range(4):
        z = random.normal(size=(5, 3, 6)).astype("float32")
        weights = None if step == 1 else random.random(5).astype("float32")
        repeated = np.repeat(np.ones(5) if weights is None else weights, 3)
        codes, _ = nearest(z.reshape(-1, 6), vectors)
        number *= 0.8
        total *= 0.8
        for row, weight in enumerate(repeated):
            for book in range(2):
                part = z.reshape(-1, 6)[row, 3 * book : 3 * book + 3]
                number[book, codes[row, book]] += 0.2 * weight
                total[book, codes[row, book]] += 0.2 * weight * part
        used = number > 0
        vectors[used] = total[used] / number[used][:, None]
        update(tf.constant(z), None if weights is None else tf.constant(weights))
        np.testing.assert_allclose(quantizer.counts, number, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(quantizer.vectors, vectors, rtol=1e-4, atol=1e-6)


def test_an_update_that_is_not_allowed_changes_nothing():
    quantizer = built()
    before = [variable.numpy() for variable in quantizer.variables]
    z = tf.random.stateless_normal((20, 6), (0, 0))
    quantizer.update(z, quantizer.encode(z), None, (0, 0), False)
    for old, variable in zip(before, quantizer.variables, strict=True):
        np.testing.assert_array_equal(old, variable)


def test_without_restarts_a_code_of_at_most_a_millionth_of_a_latent_keeps_its_vector():
    quantizer = built(4, 1, [[[0.0], [10.0], [20.0], [30.0]]], decay=0.0, restart_below=0.0)
    z = np.float32([[1], [11], [21]])
    weights = np.float32([5e-7, 1e-6, 1.5e-6])
    quantizer.update(tf.constant(z), quantizer.encode(z), tf.constant(weights), (0, 0), True)
    np.testing.assert_allclose(quantizer.vectors.numpy().ravel(), [0, 10, 21, 30], rtol=1e-6)


def test_a_code_restarts_unless_all_latents_have_the_weight_0():
    quantizer = built(2, 1, [[[0.0], [10.0]]], restart_below=0.5)
    quantizer.counts.assign([[1.0, 0.0]])
    quantizer.sums.assign([[[0.0], [0.0]]])
    z = tf.constant([[1.0], [2.0]])
    for weights, expected in (([0.0, 0.0], 10), ([0.0, 0.5], 2)):
        quantizer.update(z, quantizer.encode(z), tf.constant(weights), (0, 0), True)
        assert quantizer.vectors.numpy()[0, 1, 0] == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("codebook", ["gradient", "moving_average"])
def test_a_code_without_latents_becomes_a_latent_of_the_batch(codebook, mode):
    """Two vectors are far from the data. Each other code keeps its latents."""
    vectors = np.array([[[0.0, 0.0], [50.0, 50.0], [4.0, 4.0], [-90.0, 0.0]]])
    quantizer = built(4, 2, vectors, codebook=codebook, restart_below=0.1)
    z = np.concatenate([np.zeros((10, 2)), np.full((10, 2), 4.0)]).astype("float32")
    z += 0.1 * np.random.default_rng(0).normal(size=z.shape).astype("float32")
    codes = quantizer.encode(z)

    def update(seed):
        quantizer.update(tf.constant(z), codes, None, seed, True)

    in_mode(update, mode)(tf.constant([1, 2]))
    after = quantizer.vectors.numpy()[0]
    for k in (1, 3):
        assert np.min(np.abs(z - after[k]).max(axis=1)) == 0
    if codebook == "gradient":
        np.testing.assert_array_equal(after[[0, 2]], vectors[0][[0, 2]])
    else:
        np.testing.assert_allclose(after[[0, 2]], [z[:10].mean(0), z[10:].mean(0)], atol=1e-5)
        # The restarted vector is the mean of its moving averages, like every other vector.
        counts, sums = quantizer.counts.numpy()[0], quantizer.sums.numpy()[0]
        np.testing.assert_allclose(sums / counts[:, None], after, rtol=1e-5, atol=1e-6)
    assert np.allclose(quantizer.counts.numpy()[0, [1, 3]], 20 * 0.01 / 4)


def test_latents_of_weight_0_neither_count_nor_replace_a_code():
    quantizer = built(30, 2, restart_below=0.5)
    z = np.random.default_rng(0).normal(size=(10, 4, 2)).astype("float32")
    weights = np.array([0.0] * 5 + [1.0] * 5, "float32")
    expected = 0.01 * quantizer.code_counts(quantizer.encode(z[5:])).numpy()
    expected[expected < 0.5 * expected.mean()] = expected.mean()
    quantizer.update(tf.constant(z), quantizer.encode(z), tf.constant(weights), (0, 1), True)
    np.testing.assert_allclose(quantizer.counts, expected, rtol=1e-5)
    after = quantizer.vectors.numpy()[0]
    of_zero = z[:5].reshape(-1, 2)
    assert not any((of_zero == vector).all(axis=1).any() for vector in after)


def test_restarts_choose_each_latent_with_its_weight():
    quantizer = built(2000, 1, restart_below=0.5)
    z = np.array([[1.0], [2.0], [3.0]], "float32")
    weights = np.array([1.0, 2.0, 1.0], "float32")
    sampled, found = quantizer._sampled(z[None], tf.constant(weights), (3, 4))
    assert found.numpy().all()
    shares = [np.mean(sampled.numpy() == value) for value in (1.0, 2.0, 3.0)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.05)


def test_two_replicas_update_with_the_whole_batch(two_replicas):
    z = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    one = built(3, 4, restart_below=0.0)
    one.update(tf.constant(z), one.encode(z), None, (0, 0), True)
    with two_replicas.scope():
        two = built(3, 4, restart_below=0.0)
    parts = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(z[:2] if context.replica_id_in_sync_group else z[2:])
    )
    two_replicas.run(lambda z: two.update(z, two.encode(z), None, (0, 0), True), (parts,))
    for of_one, of_two in zip(one.variables, two.variables, strict=True):
        np.testing.assert_allclose(of_one.numpy(), of_two.numpy(), rtol=1e-5, atol=1e-7)


def test_two_replicas_restart_codes_with_latents_of_both(two_replicas):
    """One replica has the latents 1, the other the latents 2. Both end with the same codebook."""
    with two_replicas.scope():
        quantizer = built(6, 1, np.full((1, 6, 1), 100.0), restart_below=0.5)
    quantizer.vectors.assign(np.arange(100.0, 106.0).reshape(1, 6, 1))
    values = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.fill((4, 1), 1.0 + context.replica_id_in_sync_group)
    )

    def update(z):
        codes = tf.zeros((4, 1), tf.int64)
        quantizer.update(z, codes, None, (5, 6), True)

    two_replicas.run(update, (values,))
    copies = two_replicas.experimental_local_results(quantizer.vectors.value)
    np.testing.assert_array_equal(copies[0], copies[1])
    np.testing.assert_allclose(copies[0].numpy().ravel(), [1.5, 2, 1, 2, 1, 2], rtol=1e-6)


def test_counts_of_codes_are_weighted():
    quantizer = built(3, 2)
    codes = tf.constant([[[0], [1]], [[1], [1]]], tf.int64)
    assert quantizer.code_counts(codes).numpy().tolist() == [[1, 3, 0]]
    weights = tf.constant([2.0, 0.5])
    assert quantizer.code_counts(codes, weights).numpy().tolist() == [[2, 3, 0]]


# === Arguments ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_codes": 1}, "`num_codes` of VectorQuantizer must be an integer of at least 2"),
        ({"num_codebooks": 0}, "`num_codebooks` of VectorQuantizer must be an integer of at least"),
        ({"codebook": "ema"}, "must be 'moving_average' or 'gradient'. Received: codebook='ema'"),
        ({"commitment": -1}, "`commitment` of VectorQuantizer must be a finite number of at least"),
        (
            {"decay": 1.0},
            "`decay` of VectorQuantizer must be a number in [0, 1). Received: decay=1",
        ),
        ({"restart_below": 1.0}, "`restart_below` of VectorQuantizer must be a number in [0, 1)"),
        ({"restart_below": "no"}, "`restart_below` of VectorQuantizer must be a number in [0, 1)"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        VectorQuantizer(**{"num_codes": 4} | arguments)


def test_the_size_must_be_divisible():
    with pytest.raises(ValueError, match=r"divisible by `num_codebooks`\. Received: .* size 5 for"):
        VectorQuantizer(4, num_codebooks=2).build((None, 3, 5))


def test_it_is_an_ordinary_layer_of_a_network_and_is_saved(tmp_path):
    inputs = keras.Input((3, 4))
    network = keras.Model(inputs, VectorQuantizer(5, num_codebooks=2, decay=0.5)(inputs))
    z = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert network.output_shape == (None, 3, 4)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(z), network(z))
    assert repr(loaded.layers[-1]) == repr(network.layers[-1])
