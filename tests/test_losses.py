import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_gen.losses import AdversarialLoss, NonSaturating

RANDOM = np.random.default_rng(0)
REAL, FAKE = RANDOM.normal(size=(2, 50, 1), scale=3)


def test_non_saturating_is_the_formula_of_the_notes_with_its_slip_mended():
    gamma_real, gamma_fake = scipy.special.expit(REAL), scipy.special.expit(FAKE)
    loss = NonSaturating()
    np.testing.assert_allclose(loss.generator(FAKE), -np.log(gamma_fake)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(loss.discriminator(REAL, FAKE), (-np.log(gamma_real) - np.log(1 - gamma_fake))[:, 0], rtol=1e-6)


def test_against_the_optimal_discriminator_it_is_log_4_less_twice_the_jensen_shannon_divergence():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    logit = np.log(p / q)[:, None]  # of γ = p / (p + q)
    loss = NonSaturating()
    value = np.sum(p * loss.discriminator(logit, np.full_like(logit, -1e9))) + np.sum(
        q * loss.discriminator(np.full_like(logit, 1e9), logit)
    )
    middle = (p + q) / 2
    jensen_shannon = (scipy.special.rel_entr(p, middle).sum() + scipy.special.rel_entr(q, middle).sum()) / 2
    assert value == pytest.approx(np.log(4) - 2 * jensen_shannon)


def test_it_stays_finite_and_its_gradient_alive_where_the_discriminator_is_sure():
    logits = tf.Variable([[-200.0], [200.0]])
    with tf.GradientTape() as tape:
        loss = NonSaturating().generator(logits)
    np.testing.assert_allclose(loss, [200, 0], atol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, logits), [[-1], [0]], atol=1e-6)


def test_a_loss_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="`generator`"):
        AdversarialLoss().generator(FAKE)
    with pytest.raises(NotImplementedError, match="`discriminator`"):
        AdversarialLoss().discriminator(REAL, FAKE)
