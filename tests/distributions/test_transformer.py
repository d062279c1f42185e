"""`TransformerPrior`: probabilities of all sequences, causality, sampling, fitting, saving."""

import itertools
import math
import re

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_gen.distributions import TransformerPrior


def perturbed(code_shape=(2, 2, 1), num_codes=3, scale=1.0, **arguments):
    """A small prior whose weights are random, also those of the last layer."""
    prior = TransformerPrior(
        code_shape, num_codes, **{"width": 8, "depth": 2, "num_heads": 2} | arguments
    )
    random = np.random.default_rng(0)
    for variable in prior.weights:
        variable.assign(variable + scale * random.normal(size=variable.shape))
    prior.fitted.assign(1.0)
    return prior


def all_codes(prior):
    sequences = itertools.product(range(prior.num_codes), repeat=prior.event_size)
    return np.array(list(sequences)).reshape(-1, *prior.code_shape)


@pytest.mark.parametrize("code_shape", [(2, 2, 1), (3,), (2, 2)])
def test_the_probabilities_of_all_codes_sum_to_1(code_shape):
    prior = perturbed(code_shape)
    log_prob = prior.log_prob(all_codes(prior)).numpy().astype("float64")
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-5)
    assert log_prob.std() > 0.1


def test_the_log_probability_is_the_sum_of_the_conditionals():
    prior = perturbed()
    codes = all_codes(prior)[::7]
    logits = prior(codes.reshape(-1, 4)).numpy().astype("float64")
    conditionals = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(conditionals, codes.reshape(-1, 4, 1), -1)
    np.testing.assert_allclose(prior.log_prob(codes), chosen.sum((1, 2)), rtol=1e-4)


def test_a_conditional_depends_on_all_earlier_codes_and_on_no_later_code():
    prior = perturbed((4, 2), 3)
    codes = np.random.default_rng(0).integers(0, 3, (1, 8))
    before = prior(codes).numpy()[0]
    for index in range(8):
        changed = codes.copy()
        changed[0, index] = (codes[0, index] + 1) % 3
        difference = np.abs(prior(changed).numpy()[0] - before).max(axis=1)
        assert np.all(difference[: index + 1] == 0)
        assert np.all(difference[index + 1 :] > 1e-4)


def test_codes_of_different_codebooks_have_different_embeddings():
    """The same code in the other codebook changes the following conditionals in another way."""
    prior = perturbed((1, 2), 3, depth=1)
    prior.position.embeddings.assign(tf.zeros_like(prior.position.embeddings))
    used = []
    prior.embedding.call = lambda tokens, call=prior.embedding.call: (
        used.append(tokens) or call(tokens)
    )
    prior(np.array([[2, 1]]))
    assert used[0].numpy().tolist() == [[6, 2]]
    deeper = perturbed((2, 2), 3, depth=1)
    deeper.embedding.call = prior.embedding.call
    used.clear()
    deeper(np.array([[2, 1, 0, 2]]))
    assert used[0].numpy().tolist() == [[6, 2, 4, 0]]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("code_shape", [(2, 1, 1), (1, 2)])
def test_sampled_codes_have_their_probabilities(code_shape, temperature):
    """The frequencies of 4,000 samples fit by a χ² test, also with another temperature."""
    prior = perturbed(code_shape)
    codes = all_codes(prior).reshape(-1, 2)
    logits = prior(codes).numpy().astype("float64") / temperature
    conditionals = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.exp(np.take_along_axis(conditionals, codes[..., None], -1).sum((1, 2)))
    sampled = prior.sample_rows(np.arange(4000), temperature=temperature).numpy()
    assert sampled.shape == (4000, *code_shape)
    assert sampled.dtype == np.int64
    expected /= expected.sum()  # scipy accepts no rounding errors
    counts = np.bincount(sampled.reshape(-1, 2) @ [3, 1], minlength=9)
    assert scipy.stats.chisquare(counts, 4000 * expected).pvalue > 1e-3
    assert np.abs(expected - 1 / 9).max() > 0.05


def test_a_step_of_sampling_has_the_logits_of_the_whole_sequence():
    """With a temperature near 0, each code is the most probable one given the codes before it."""
    prior = perturbed((3, 2), 5)
    codes = prior.sample_rows(np.arange(20), temperature=1e-6).numpy().reshape(-1, 6)
    assert np.all(codes == codes[0])
    np.testing.assert_array_equal(prior(codes).numpy().argmax(-1), codes)


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 1), (1 - 2**-23, 3)])
def test_a_code_of_probability_0_is_not_sampled(uniform, expected, monkeypatch):
    """A code is the smallest k for which p(c ≤ k) exceeds a number from [0, 1)."""
    prior = TransformerPrior((1, 1), 5, width=8, depth=1)
    prior.logits.bias.assign([-1e4, 0.0, 0.3, 1.0, -1e4])
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, seed: tf.fill(shape, uniform))
    for temperature in np.linspace(0.5, 2, 50):  # the sums of the probabilities are rounded
        codes = prior.sample_rows([0], temperature=temperature)
        np.testing.assert_array_equal(codes, [[[expected]]])


def test_the_size_of_the_network():
    prior = TransformerPrior((2, 3), 5, width=8, depth=2, num_heads=2)
    attention = 4 * (8 * 8 + 8)
    perceptron = 8 * 32 + 32 + 32 * 8 + 8
    normalization = 2 * 8
    block = attention + perceptron + 2 * normalization
    embeddings = (3 * 5 + 1 + 6) * 8  # of the codes, the start and the positions
    sizes = embeddings + 2 * block + normalization + 8 * 5 + 5
    assert sum(math.prod(weight.shape) for weight in prior.weights) == sizes + 1  # `fitted`


def test_a_sample_depends_only_on_its_seed():
    prior = perturbed((3, 3, 1), 7)
    seeds = np.array([5, 2**40, -3, 5])
    codes = prior.sample_rows(seeds).numpy()
    np.testing.assert_array_equal(codes[0], codes[3])
    assert not np.array_equal(codes[0], codes[1])
    alone = np.concatenate([prior.sample_rows(seeds[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(codes, alone)
    assert prior.sample_rows(seeds[:0]).shape == (0, 3, 3, 1)


def test_before_fit_it_is_uniform_and_no_weight_is_trainable():
    prior = TransformerPrior((2, 2, 1), 5, width=8, depth=1)
    assert prior.trainable_variables == []
    assert not any(weight.trainable for weight in prior.weights)  # also as a part of a model
    uniform = np.full(3, -4 * math.log(5))
    codes = np.random.default_rng(0).integers(0, 5, (3, 2, 2, 1))
    np.testing.assert_allclose(prior.log_prob(codes), uniform, rtol=1e-6)
    prior.fitted.assign(1.0)  # the same from the network
    np.testing.assert_allclose(prior.log_prob(codes), uniform, rtol=1e-6)
    counts = np.bincount(prior.sample_rows(np.arange(500)).numpy().ravel(), minlength=5)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_fit_learns_a_distribution_of_codes_and_a_second_call_continues():
    """A Markov chain whose entropy is known: the loss falls to it, the samples are such chains."""
    random = np.random.default_rng(0)
    stay = random.random((2000, 5)) < 0.8
    start = random.integers(0, 3, (2000, 1))
    codes = np.concatenate([start, np.where(stay, 0, 1)], axis=1).cumsum(axis=1) % 3
    entropy = math.log(3) + 5 * scipy.stats.entropy([0.8, 0.2])
    prior = TransformerPrior((6,), 3, width=16, depth=1, num_heads=2, epochs=4)
    history = prior.fit(codes, learning_rate=0.01, verbose=0).history
    assert history["loss"][0] > history["loss"][-1]
    assert len(history["loss"]) == prior.epochs
    again = prior.fit(codes, epochs=3, validation_codes=codes[:500], verbose=0).history
    assert len(again["loss"]) == 3
    assert again["loss"][0] < history["loss"][0] - 0.5
    assert again["loss"][-1] == pytest.approx(entropy, abs=0.15)
    assert np.mean(-prior.log_prob(codes[:500])) == pytest.approx(again["val_loss"][-1], rel=1e-4)
    assert prior.trainable_variables == []
    assert float(prior.fitted) == 1
    samples = prior.sample_rows(np.arange(500)).numpy()
    stays = np.mean(samples[:, 1:] == samples[:, :-1])
    assert stays == pytest.approx(0.8, abs=0.05)


def test_fit_is_reproducible_and_its_order_depends_on_the_seed():
    codes = np.random.default_rng(0).integers(0, 3, (50, 4))

    def fitted(seed):
        keras.utils.set_random_seed(0)
        prior = TransformerPrior((4,), 3, width=8, depth=1, num_heads=1)
        tf.random.set_seed(seed + 100)  # which must not matter
        prior.fit(codes, epochs=2, batch_size=8, seed=seed, verbose=0)
        return prior.get_weights()

    first, second, other = fitted(0), fitted(0), fitted(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (
            np.zeros((3, 5), int),
            "`codes` must be integers of shape (n, 2, 2) with n of at least 1.",
        ),
        (np.zeros((0, 2, 2), int), "with n of at least 1. Received: shape (0, 2, 2)"),
        (np.zeros((3, 2, 2)), "Received: shape (3, 2, 2) of float64"),
        (np.full((3, 2, 2), 3), "`codes` must be integers from 0 to 2. Received: values from 3 to"),
        (np.full((3, 2, 2), -1), "`codes` must be integers from 0 to 2. Received: values from -1"),
    ],
)
def test_the_codes_of_fit_are_checked(codes, message):
    prior = TransformerPrior((2, 2), 3, width=8, depth=1)
    with pytest.raises(ValueError, match=re.escape(message)):
        prior.fit(codes, verbose=0)
    with pytest.raises(ValueError, match="`epochs` of TransformerPrior"):  # one example is enough
        prior.fit(np.zeros((1, 2, 2), int), epochs=0, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"code_shape": (0, 1)}, "`code_shape` of TransformerPrior must be an integer of at least"),
        ({"num_codes": 1}, "`num_codes` of TransformerPrior must be an integer of at least 2"),
        ({"width": 10}, "must be divisible by `num_heads`. Received: width=10, num_heads=4"),
        ({"epochs": 0}, "`epochs` of TransformerPrior must be an integer of at least 1"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TransformerPrior(**{"code_shape": (2, 1), "num_codes": 3} | arguments)


def test_it_is_refused_as_the_prior_of_latent_vectors():
    prior = TransformerPrior((2, 1), 3, width=8, depth=1)
    with pytest.raises(ValueError, match="Expected a prior over latent vectors"):
        prior.distribution()
    with pytest.raises(ValueError, match=r"`temperature` .* must be a positive number"):
        prior.sample_rows([1], temperature=0)


def test_it_is_saved_by_its_arguments_and_weights():
    prior = perturbed((2, 2))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(prior))
    assert repr(again) == repr(prior)
    again.set_weights(prior.get_weights())
    assert again.trainable_variables == []
    np.testing.assert_array_equal(
        again.log_prob(all_codes(prior)), prior.log_prob(all_codes(prior))
    )
