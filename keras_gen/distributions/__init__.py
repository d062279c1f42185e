"""Posteriors, priors and likelihoods, and the divergence between two distributions.

A posterior or a likelihood makes a TFP distribution from the tensor that a network outputs. Each
function imports TFP itself, since that takes a second and `import keras_gen` should be quick.
"""

from keras_gen.distributions.densities import FittedMixture
from keras_gen.distributions.divergence import (
    CrossCheck,
    KLDivergence,
    closed_form_kl,
    cross_check,
    kl_divergence,
)
from keras_gen.distributions.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Likelihood,
    Normal,
)
from keras_gen.distributions.posteriors import (
    DiagonalNormal,
    FullCovarianceNormal,
    InverseAutoregressiveNormal,
    Posterior,
)
from keras_gen.distributions.priors import (
    ConditionalNormal,
    LearnedNormal,
    NormalMixture,
    Prior,
    StandardNormal,
    VampPrior,
)

__all__ = [
    "Bernoulli",
    "Categorical",
    "ConditionalNormal",
    "ContinuousBernoulli",
    "CrossCheck",
    "DiagonalNormal",
    "FittedMixture",
    "FullCovarianceNormal",
    "InverseAutoregressiveNormal",
    "KLDivergence",
    "LearnedNormal",
    "Likelihood",
    "Normal",
    "NormalMixture",
    "Posterior",
    "Prior",
    "StandardNormal",
    "VampPrior",
    "closed_form_kl",
    "cross_check",
    "kl_divergence",
]
