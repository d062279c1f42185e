"""Families of distributions (parameters in tensors ⇄ TFP distributions), priors and the divergence between two."""

from keras_gen.distributions.divergence import KLDivergence, kl_divergence
from keras_gen.distributions.likelihoods import Bernoulli, Likelihood, Normal
from keras_gen.distributions.posteriors import DiagonalNormal, Posterior
from keras_gen.distributions.priors import Prior, StandardNormal

__all__ = [
    "Bernoulli",
    "DiagonalNormal",
    "KLDivergence",
    "Likelihood",
    "Normal",
    "Posterior",
    "Prior",
    "StandardNormal",
    "kl_divergence",
]
