"""Configurations of objects, and the checks of their constructor arguments."""

import re

import keras
import numpy as np
import pytest

from keras_gen import distributions, losses, networks, objectives
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
        distributions.DiscretizedLogisticMixture((7,), num_components=2, num_levels=4),
        distributions.FullCovarianceNormal(3),
        distributions.InverseAutoregressiveNormal(3, num_flows=1, hidden_size=4, context_size=2),
        distributions.StandardNormal(5, name="prior"),
        distributions.LearnedNormal(5),
        distributions.NormalMixture(5, num_components=4),
        distributions.FittedMixture(5, num_components=2),
        distributions.FittedMixture(5, num_components=None),
        distributions.FittedFlow(5, num_flows=2, hidden_size=4),
        distributions.ConditionalNormal(5, num_classes=3, hidden_size=4),
        distributions.VampPrior(5, num_components=4),
        distributions.TransformerPrior((2, 2), num_codes=3, width=4, depth=1, num_heads=2),
        networks.VectorQuantizer(4, num_codebooks=2, codebook="gradient", decay=0.5),
        objectives.ELBO(kl_weight=0.5, num_samples=2, free_bits=1.0),
        objectives.ELBO(kl_weight=objectives.Cyclical(period=100, rise=0.2)),
        objectives.IWAE(num_samples=5, doubly_reparameterized=True),
        objectives.TotalCorrelation(beta=4.0, num_examples=100),
        objectives.LinearWarmUp(steps=10, end=2.0),
        losses.NonSaturating(),
    ],
    ids=lambda instance: type(instance).__name__,
)
def test_every_object_is_restored_from_its_configuration(instance):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(instance))
    assert type(again) is type(instance)
    assert again.get_config() == instance.get_config()


@pytest.mark.parametrize("count", [3, np.int64(3), np.uint8(3)])
def test_positive_integers_of_python_and_numpy_become_ints(count):
    assert type(positive_int(None, "every", count)) is int
    assert positive_int(None, "every", count, at_least=3) == 3


@pytest.mark.parametrize("count", [0, -1, 1.0, np.float32(2), True, np.True_, "1", None])
def test_other_values_are_rejected_with_the_names_of_owner_and_argument(count):
    message = f"`every` of R1 must be an integer of at least 1. Received: every={count!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        losses.R1(1.0, every=count)
    message = f"`every` must be an integer of at least 1. Received: every={count!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        positive_int(None, "every", count)


def test_a_bool_is_not_a_number():
    message = "`weight` of R1 must be a positive number. Received: weight=True"
    with pytest.raises(ValueError, match=re.escape(message)):
        losses.R1(True)
    assert positive_float(None, "weight", np.float32(0.5)) == 0.5


def test_the_repr_shows_the_constructor_arguments():
    assert repr(objectives.LinearWarmUp(10)) == "LinearWarmUp(steps=10, end=1.0)"
