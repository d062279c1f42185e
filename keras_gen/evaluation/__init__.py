"""Functions that evaluate a trained model: its log-likelihood, its samples and its latents."""

from keras_gen.evaluation.anomalies import heat_maps, save_anomalies
from keras_gen.evaluation.features import (
    Extractor,
    inception,
    load_extractor,
    mnist_classifier,
)
from keras_gen.evaluation.frechet import KernelDistance, frechet_distance, kernel_distance
from keras_gen.evaluation.independence import IndependenceAudit, Interval, audit_independence
from keras_gen.evaluation.kl_check import KLCheck, check_kl
from keras_gen.evaluation.latent_space import interpolate, latents, traverse, tsne
from keras_gen.evaluation.latent_usage import LatentReport, latent_report
from keras_gen.evaluation.likelihood import LogLikelihood, log_likelihood
from keras_gen.evaluation.manifold import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    precision_recall,
)
from keras_gen.evaluation.quality import (
    QualityLogs,
    SampleQuality,
    generate_samples,
    sample_quality,
)
from keras_gen.evaluation.summary import (
    Evaluation,
    Score,
    format_number,
    save_latent_figures,
    summarize,
)

__all__ = [
    "DensityCoverage",
    "Evaluation",
    "Extractor",
    "IndependenceAudit",
    "Interval",
    "KLCheck",
    "KernelDistance",
    "LatentReport",
    "LogLikelihood",
    "PrecisionRecall",
    "QualityLogs",
    "SampleQuality",
    "Score",
    "audit_independence",
    "check_kl",
    "density_coverage",
    "format_number",
    "frechet_distance",
    "generate_samples",
    "heat_maps",
    "inception",
    "interpolate",
    "kernel_distance",
    "latent_report",
    "latents",
    "load_extractor",
    "log_likelihood",
    "mnist_classifier",
    "precision_recall",
    "sample_quality",
    "save_anomalies",
    "save_latent_figures",
    "summarize",
    "traverse",
    "tsne",
]
