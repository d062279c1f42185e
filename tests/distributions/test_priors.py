import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_gen.distributions import Prior, StandardNormal


def test_standard_normal_is_scipys():
    z = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    expected = scipy.stats.norm.logpdf(z).sum(axis=1)
    np.testing.assert_allclose(StandardNormal(3).distribution().log_prob(z), expected, rtol=1e-5)


def test_a_row_depends_on_its_seed_alone():
    prior = StandardNormal(4)
    seeds = np.array([3, 2**40 + 3, -1, 3, 2**63 - 1])
    rows = prior.sample_rows(seeds).numpy()
    np.testing.assert_array_equal(rows[0], rows[3])
    assert len({tuple(row) for row in rows}) == 4
    for seed, row in zip(seeds, rows, strict=True):
        np.testing.assert_array_equal(prior.sample_rows([seed])[0], row)
    assert prior.sample_rows(np.zeros(0, np.int64)).shape == (0, 4)


def test_rows_of_consecutive_seeds_are_draws_of_the_prior():
    rows = StandardNormal(2).sample_rows(np.arange(5000)).numpy()
    assert scipy.stats.kstest(rows.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(rows.T)[0, 1]) < 4 / np.sqrt(len(rows))
    assert abs(np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]) < 4 / np.sqrt(len(rows))


@keras.saving.register_keras_serializable("tests")
class Laplace(Prior):
    def __init__(self, event_size, width=1.0, **kwargs):
        super().__init__(event_size, **kwargs)
        self.width = width

    def distribution(self, condition=None):
        return tfp.distributions.Independent(tfp.distributions.Laplace(tf.zeros(self.event_size), self.width), 1)


def test_a_prior_of_ones_own_round_trips_and_samples():
    prior = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(Laplace(2, width=0.5, name="mine")))
    assert (prior.event_size, prior.width, prior.name) == (2, 0.5, "mine")
    rows = prior.sample_rows(np.arange(4000)).numpy()
    assert scipy.stats.kstest(rows.ravel(), scipy.stats.laplace(scale=0.5).cdf).pvalue > 1e-3


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="`event_size` of StandardNormal"):
        StandardNormal(0)
    with pytest.raises(NotImplementedError, match=r"must return a `tfd\.Distribution` from `distribution\(\)`"):
        Prior(2).distribution()
