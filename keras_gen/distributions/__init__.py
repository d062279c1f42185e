"""Posteriors q(z | x), priors p(z), likelihoods p(x | z), and the Kullback-Leibler divergence.

A posterior or a likelihood makes a distribution of TensorFlow Probability (TFP) from the tensor
that a network outputs. Importing TFP takes about a second. Therefore the modules of this package
import TFP only inside the functions that need TFP.
"""

from keras_gen.distributions.columns import Columns
from keras_gen.distributions.densities import FittedDensity, FittedFlow, FittedMixture
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
from keras_gen.distributions.logistic_mixture import DiscretizedLogisticMixture
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
from keras_gen.distributions.transformer import TransformerPrior

__all__ = [
    "Bernoulli",
    "Categorical",
    "Columns",
    "ConditionalNormal",
    "ContinuousBernoulli",
    "CrossCheck",
    "DiagonalNormal",
    "DiscretizedLogisticMixture",
    "FittedDensity",
    "FittedFlow",
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
    "TransformerPrior",
    "VampPrior",
    "closed_form_kl",
    "cross_check",
    "kl_divergence",
]
