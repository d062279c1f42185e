"""What a model is worth: log-likelihood, and the distance of its samples from data."""

from keras_gen.evaluation.frechet import KernelDistance, frechet_distance, kernel_distance
from keras_gen.evaluation.likelihood import LogLikelihood, log_likelihood
from keras_gen.evaluation.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall

__all__ = [
    "DensityCoverage",
    "KernelDistance",
    "LogLikelihood",
    "PrecisionRecall",
    "density_coverage",
    "frechet_distance",
    "kernel_distance",
    "log_likelihood",
    "precision_recall",
]
