"""What a model is worth: log-likelihood, the quality of its samples, the use of its latents."""

from keras_gen.evaluation.features import Extractor, inception, mnist_classifier
from keras_gen.evaluation.frechet import KernelDistance, frechet_distance, kernel_distance
from keras_gen.evaluation.independence import IndependenceAudit, Interval, audit_independence
from keras_gen.evaluation.latent_space import codes, interpolate, map_codes, traverse
from keras_gen.evaluation.latent_usage import LatentReport, latent_report
from keras_gen.evaluation.likelihood import LogLikelihood, log_likelihood
from keras_gen.evaluation.manifold import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    precision_recall,
)
from keras_gen.evaluation.quality import QualityLogs, SampleQuality, sample_quality
from keras_gen.evaluation.summary import Evaluation, Score, summarize

__all__ = [
    "DensityCoverage",
    "Evaluation",
    "Extractor",
    "IndependenceAudit",
    "Interval",
    "KernelDistance",
    "LatentReport",
    "LogLikelihood",
    "PrecisionRecall",
    "QualityLogs",
    "SampleQuality",
    "Score",
    "audit_independence",
    "codes",
    "density_coverage",
    "frechet_distance",
    "inception",
    "interpolate",
    "kernel_distance",
    "latent_report",
    "log_likelihood",
    "map_codes",
    "mnist_classifier",
    "precision_recall",
    "sample_quality",
    "summarize",
    "traverse",
]
