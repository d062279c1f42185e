import re

import keras
import numpy as np
import pytest

from keras_gen import distributions, losses, objectives
from keras_gen._arguments import positive_float, positive_int


@pytest.mark.parametrize(
    "instance",
    [
        distributions.DiagonalNormal(3),
        distributions.Bernoulli((4, 4, 1)),
        distributions.Normal((7,), scale=0.25),
        distributions.Normal((7,), scale="optimal"),
        distributions.ContinuousBernoulli((7,)),
        distributions.Categorical((7,), num_levels=4),
        distributions.FullCovarianceNormal(3),
        distributions.InverseAutoregressiveNormal(3, num_flows=1, hidden_size=4, context_size=2),
        distributions.StandardNormal(5, name="prior"),
        distributions.LearnedNormal(5),
        distributions.NormalMixture(5, num_components=4),
        distributions.FittedMixture(5, num_components=2),
        distributions.ConditionalNormal(5, num_classes=3, hidden_size=4),
        distributions.VampPrior(5, num_components=4),
        objectives.ELBO(kl_weight=0.5, num_samples=2, free_bits=1.0),
        objectives.ELBO(kl_weight=objectives.Cyclical(period=100, rise=0.2)),
        objectives.IWAE(num_samples=5, doubly_reparameterized=True),
        objectives.LinearWarmUp(steps=10, end=2.0),
        losses.NonSaturating(),
    ],
    ids=lambda instance: type(instance).__name__,
)
def test_every_object_comes_back_from_its_configuration(instance):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(instance))
    assert type(again) is type(instance)
    assert again.get_config() == instance.get_config()


@pytest.mark.parametrize("count", [3, np.int64(3), np.uint8(3)])
def test_a_count_is_an_int_of_python_or_numpy(count):
    assert type(positive_int(None, "every", count)) is int
    assert positive_int(None, "every", count, at_least=3) == 3


@pytest.mark.parametrize("count", [0, -1, 1.0, np.float32(2), True, np.True_, "1", None])
def test_what_is_no_count_is_refused_by_the_names_of_owner_and_argument(count):
    with pytest.raises(
        ValueError,
        match=re.escape(f"`every` of R1 must be an integer of at least 1. Received: every={count!r}"),
    ):
        losses.R1(1.0, every=count)
    with pytest.raises(
        ValueError, match=re.escape(f"`every` must be an integer of at least 1. Received: every={count!r}")
    ):
        positive_int(None, "every", count)


def test_a_truth_value_is_no_number():
    with pytest.raises(
        ValueError, match=re.escape("`weight` of R1 must be a positive number. Received: weight=True")
    ):
        losses.R1(True)
    assert positive_float(None, "weight", np.float32(0.5)) == 0.5


def test_an_object_shows_how_it_was_made():
    assert repr(distributions.Normal((7,), scale=0.25)) == "Normal(event_shape=(7,), scale=0.25)"
