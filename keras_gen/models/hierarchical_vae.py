"""The hierarchical variational autoencoder, a VAE with several layers of latents."""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import keras
import tensorflow as tf

from keras_gen._arguments import is_real, positive_int
from keras_gen._labels import as_tensor
from keras_gen._tracing import traced
from keras_gen._typing import Array, Distribution, TensorLike
from keras_gen.distributions import (
    DiagonalNormal,
    Likelihood,
    Posterior,
    Prior,
    StandardNormal,
    closed_form_kl,
)
from keras_gen.distributions._checks import check_likelihood, check_posterior, check_prior
from keras_gen.models.base import CheckedBatch
from keras_gen.models.vae import VAE
from keras_gen.networks._checks import (
    check_logits,
    check_network,
    common_num_classes,
    condition_index,
    num_classes_of,
)
from keras_gen.networks._common import label_input
from keras_gen.networks._copies import call_network
from keras_gen.objectives import Batch, Objective

Inference = Literal["bottom_up", "top_down"]

_FIRST_FOLD = 16  # the base classes fold 1 and 2 into the seed of a sample


# === Distributions over the latents of all layers ===


class LayeredDistribution(abc.ABC):
    """A distribution over the latents z = (z_1, …, z_L) of all layers of a hierarchical VAE.

    Its samples are the concatenated latents, from the bottom layer z_1 to the top layer z_L. Its
    density is a product with one factor per layer. The factor of the layer that is sampled first
    depends on no other layer. Each further factor is the density of a layer, given the latents of
    the layer that is sampled before it. `HierarchicalVAE.encode` and the prior of a
    `HierarchicalVAE` return such a distribution. It has the methods `sample` and `log_prob` of a
    `tfd.Distribution`. Its mean, its variance and its divergences have no closed form.

    Args:
        sizes: Number of latents of each layer.
        order: Indices of the layers in the order in which they are sampled. 0 is the bottom layer.
        labels: Labels `[batch]` if the model is conditional, otherwise None.
    """

    dtype = tf.float32

    def __init__(
        self, sizes: Sequence[int], order: Sequence[int], labels: tf.Tensor | None
    ) -> None:
        self.sizes = list(sizes)
        self.order = list(order)
        self.labels = labels
        self.training = False
        self._sampled: tuple[tf.Tensor | None, list[tf.Tensor]] = (None, [])
        self._factors: dict[int, tuple[tf.Tensor | None, Distribution]] = {}

    def __repr__(self) -> str:
        """Return the class and the number of latents of each layer."""
        return f"{type(self).__name__}(sizes={self.sizes})"

    @property
    def event_shape(self) -> tf.TensorShape:
        """Number of latents of all layers, as a shape `[n]`."""
        return tf.TensorShape((sum(self.sizes),))

    @property
    def layers(self) -> list[Distribution]:
        """Distribution of each layer, from the bottom layer to the top layer.

        The distribution of a layer can depend on the latents of a neighboring layer. It is then
        computed for one value of these latents, such as their mean. The method `points` chooses
        this value.
        """
        return self.factors(self.points())

    def sample(self, sample_shape: Any = (), seed: TensorLike | None = None) -> tf.Tensor:
        """Return samples of the latents of all layers, `[*sample_shape, *batch_shape, n]`.

        Args:
            sample_shape: Number of samples, or a shape.
            seed: Seed of the samples, int32 `[2]`. If None, each call returns new samples.
        """
        import tensorflow_probability as tfp  # not at the top, because the import takes long

        seed = tfp.random.sanitize_seed(seed)
        first = self.order[0]

        def sample_layer(layer: int, factor: Distribution) -> tf.Tensor:
            folded = tf.random.experimental.stateless_fold_in(seed, layer)
            if layer != first:  # the latents on which the factor depends have the sample shape
                return factor.sample(seed=folded)
            shape = tf.reshape(tf.cast(sample_shape, tf.int32), (-1,))
            if self.labels is not None and factor.batch_shape.rank == 0:
                shape = tf.concat([shape, tf.shape(self.labels)], axis=0)
            return factor.sample(shape, seed=folded)

        parts = self._in_order(sample_layer)
        z = tf.concat(parts, axis=-1)
        self._sampled = (z, parts)
        return z

    def log_prob(self, z: TensorLike) -> tf.Tensor:
        """Return the log-density of latents `[..., n]`, in nats."""
        parts = self.split(z)
        terms = [
            factor.log_prob(part) for factor, part in zip(self.factors(parts), parts, strict=True)
        ]
        return functools.reduce(tf.add, terms)

    def points(self) -> list[tf.Tensor]:
        """Return a point estimate of the latents of each layer, such as their mean.

        The method computes the point estimates in the order in which the layers are sampled. The
        distribution of a layer is computed from the point estimate of the previous layer in this
        order.
        """
        return self._in_order(self._point)

    def split(self, z: TensorLike) -> list[tf.Tensor]:
        """Split latents `[..., n]` into the latents of each layer."""
        sampled, parts = self._sampled
        if z is sampled:  # the factors of these tensors are known already
            return parts
        return tf.split(tf.cast(z, tf.float32), self.sizes, axis=-1)

    def factors(self, parts: Sequence[tf.Tensor]) -> list[Distribution]:
        """Return the distribution of each layer, given the latents of all layers."""
        given = {layer: parts[previous] for previous, layer in itertools.pairwise(self.order)}
        return [self.factor(layer, given.get(layer)) for layer in range(len(self.sizes))]

    def factor(self, layer: int, given: tf.Tensor | None) -> Distribution:
        """Return the distribution of a layer's latents, given the latents of a neighboring layer.

        The method stores its result. A second call with the same tensor `given` returns the stored
        result.

        Args:
            layer: Index of the layer of latents. 0 is the bottom layer.
            given: Latents of the neighboring layer, which is sampled first. None if no layer is
                sampled before the layer `layer`.
        """
        known = self._factors.get(layer)
        if known is None or known[0] is not given:
            known = (given, self._make_factor(layer, given))
            self._factors[layer] = known
        return known[1]

    @abc.abstractmethod
    def _make_factor(self, layer: int, given: tf.Tensor | None) -> Distribution:
        """Make the distribution that the method `factor` returns and stores."""

    def _point(self, layer: int, factor: Distribution) -> tf.Tensor:
        return factor.mean()

    def _in_order(self, choose: Callable[[int, Distribution], tf.Tensor]) -> list[tf.Tensor]:
        """Choose the latents of each layer, in the order in which the layers are sampled.

        The distribution of a layer depends on the latents of the previous layer in this order.

        Args:
            choose: Function of the index of a layer and the distribution of this layer. It returns
                latents of the layer, such as a sample or the mean.

        Returns:
            One tensor of latents per layer, from the bottom layer to the top layer.
        """
        parts: dict[int, tf.Tensor] = {}
        given = None
        for layer in self.order:
            given = choose(layer, self.factor(layer, given))
            parts[layer] = given
        return [parts[layer] for layer in range(len(self.sizes))]

    def _parameters(self, network: keras.Model, z: tf.Tensor) -> tf.Tensor:
        """Compute the parameters of the distribution of a layer.

        The inputs of the network are the labels, if any, and the latents `z` of the neighboring
        layer, `[..., size]`.
        """
        leading = tf.shape(z)[:-1]
        labels = self.labels
        if labels is not None:
            labels = tf.reshape(tf.broadcast_to(labels, leading), (-1,))
        flat = tf.reshape(z, (-1, z.shape[-1]))
        parameters = self._call_network(network, flat, labels)
        shape = tf.concat([leading, [parameters.shape[-1]]], axis=0)
        return tf.ensure_shape(tf.reshape(parameters, shape), (*z.shape[:-1], parameters.shape[-1]))

    def _call_network(
        self, network: keras.Model, z: tf.Tensor, labels: tf.Tensor | None
    ) -> tf.Tensor:
        """Call a network on latents `[rows, size]`, and on labels if it has an input for them."""
        return call_network(network, z, labels, self.training)

    # A distribution without closed forms raises `NotImplementedError`, as in TFP.

    def mean(self) -> tf.Tensor:
        """Raise `NotImplementedError`, because the mean has no closed form."""
        raise NotImplementedError(
            "The mean over all layers has no closed form. Use the distributions of the single "
            "layers, such as `layers[0].mean()`."
        )

    def variance(self) -> tf.Tensor:
        """Raise `NotImplementedError`, because the variance has no closed form."""
        raise NotImplementedError(
            "The variance over all layers has no closed form. Use the distributions of the single "
            "layers, such as `layers[0].variance()`."
        )

    def stddev(self) -> tf.Tensor:
        """Raise `NotImplementedError`, because the standard deviation has no closed form."""
        return self.variance()

    def covariance(self) -> tf.Tensor:
        """Raise `NotImplementedError`, because the covariance has no closed form."""
        return self.variance()

    def kl_divergence(self, other: Any) -> tf.Tensor:
        """Raise `NotImplementedError`, because the divergence has no closed form."""
        raise NotImplementedError(
            "The KL divergence over all layers has no closed form. Estimate it from samples with "
            "`log_prob`."
        )


class _LayeredPrior(LayeredDistribution):
    """The prior p(z) = p(z_L) p(z_{L−1} | z_L) … p(z_1 | z_2).

    z_1 are the latents of the bottom layer, and z_L are the latents of the top layer.

    Args:
        owner: The prior of the model, which contains the distributions and networks of all layers.
        labels: Labels `[batch]` if the model is conditional, otherwise None.
    """

    def __init__(self, owner: _JointPrior, labels: tf.Tensor | None) -> None:
        super().__init__(owner.sizes, range(len(owner.sizes))[::-1], labels)
        self.owner = owner

    @property
    def batch_shape(self) -> tf.TensorShape:
        """Shape of the labels, or `[]` if the model is not conditional."""
        return tf.TensorShape(()) if self.labels is None else self.labels.shape

    def __getitem__(self, index: Any) -> Self:
        """Return the distribution for some of the labels."""
        assert self.labels is not None
        return type(self)(self.owner, self.labels[index])

    def _make_factor(self, layer: int, given: tf.Tensor | None) -> Distribution:
        if given is None:
            return self.owner.top_prior.distribution(self.labels)
        return self.owner.conditionals[layer](self._parameters(self.owner.decoders[layer], given))


class _LayeredPosterior(LayeredDistribution):
    """Base class of the posterior q(z | x) for bottom-up inference and for top-down inference."""

    def __init__(
        self,
        owner: _JointPosterior,
        order: Sequence[int],
        parameters: tf.Tensor,
        labels: tf.Tensor | None,
    ) -> None:
        super().__init__(owner.sizes, order, labels)
        self.owner = owner
        self.parameters = parameters
        self.prior = _LayeredPrior(owner.prior, labels)

    @property
    def batch_shape(self) -> tf.TensorShape:
        """Shape `[batch]`."""
        return self.parameters.shape[:-1]

    def _point(self, layer: int, factor: Distribution) -> tf.Tensor:
        return self.owner.posteriors[layer].point(factor)

    def layer_kls(self, z: tf.Tensor, closed_form: bool) -> list[tf.Tensor]:
        """Compute KL(q(z | x) ‖ p(z)) as a sum of one term per layer, and return these terms.

        Args:
            z: Samples of this distribution q(z | x), `[samples, batch, n]`.
            closed_form: Whether to compute a term in closed form, if there is a closed form and the
                method `_independent` returns True. In all other cases, the term of layer i is
                log q − log p, evaluated at the sample z_i.

        Returns:
            One tensor `[samples, batch]` per layer, in nats.
        """
        parts = self.split(z)
        factors = self.factors(parts)
        of_prior = self.prior.factors(parts)
        kls = []
        for layer, (q, p, part) in enumerate(zip(factors, of_prior, parts, strict=True)):
            kl = closed_form_kl(q, p) if closed_form and self._independent(layer) else None
            if kl is None:
                kl = q.log_prob(part) - p.log_prob(part)
            kls.append(tf.broadcast_to(kl, tf.shape(z)[:-1]))
        return kls

    @abc.abstractmethod
    def _independent(self, layer: int) -> bool:
        """Return whether a closed form of the KL divergence of a layer i would be correct.

        The layer has two distributions of its latents z_i, one in q and one in p. A closed form is
        correct only if the parameters of these two distributions do not depend on the sample z_i
        itself. For instance, let z_{i+1} be sampled from q(z_{i+1} | z_i). Then the parameters of
        p(z_i | z_{i+1}) depend on z_{i+1}, which depends on the sample z_i. In this case, a closed
        form would be wrong.
        """


class _BottomUp(_LayeredPosterior):
    """The posterior q(z | x) for bottom-up inference.

    q(z | x) = q(z_1 | x) q(z_2 | z_1) … q(z_L | z_{L−1}), where z_1 are the latents of the bottom
    layer, and z_L are the latents of the top layer.
    """

    def __init__(
        self, owner: _JointPosterior, parameters: tf.Tensor, labels: tf.Tensor | None
    ) -> None:
        super().__init__(owner, range(len(owner.sizes)), parameters, labels)

    def _make_factor(self, layer: int, given: tf.Tensor | None) -> Distribution:
        parameters = self.parameters
        if given is not None:
            parameters = self._parameters(self.owner.encoders[layer], given)
        return self.owner.posteriors[layer](parameters)

    def _independent(self, layer: int) -> bool:
        # p(z_i | z_{i+1}) depends on z_{i+1}, which was sampled given z_i.
        return layer == len(self.sizes) - 1


class _FrozenBottomUp(_BottomUp):
    """A posterior whose log-density has no gradient with respect to the weights of the encoders.

    The log-density still has a gradient with respect to the latents at which it is computed, also
    through the parameters of q(z_i | z_{i−1}), which an encoder computes from the latents z_{i−1}.
    The doubly reparameterized gradient of an `IWAE` needs such a posterior.

    Args:
        posterior: The posterior from which the latents will be sampled.
    """

    def __init__(self, posterior: _BottomUp) -> None:
        super().__init__(posterior.owner, tf.stop_gradient(posterior.parameters), posterior.labels)
        self.training = posterior.training
        self.prior.training = posterior.training
        # Each call of an encoder changes the seeds of its random layers. With the seeds from before
        # the sampling, a dropout layer has the same mask as during the sampling.
        self.states = {
            id(encoder): [(each, tf.stop_gradient(each.value)) for each in encoder.variables]
            for encoder in self.owner.encoders[1:]
        }

    def _call_network(
        self, network: keras.Model, z: tf.Tensor, labels: tf.Tensor | None
    ) -> tf.Tensor:
        # Without a layer around it, a second call of the network would delete the losses that its
        # layers added in the first call, such as those of activity regularizers.
        call = super()._call_network
        layer = keras.layers.Lambda(lambda z: call(network, z, labels), dtype="float32")
        with keras.StatelessScope(state_mapping=self.states[id(network)]):
            return layer(z)


class _TopDown(_LayeredPosterior):
    """The posterior of top-down inference, q(z_L | x) q(z_{L−1} | z_L, x) … q(z_1 | z_2, x).

    z_1 are the latents of the bottom layer, and z_L those of the top layer. The encoders compute a
    normal distribution of each z_i from x. For i < L, q(z_i | z_{i+1}, x) is the normalized product
    of this distribution and the prior p(z_i | z_{i+1}). For the top layer, q(z_L | x) is the normal
    distribution itself.
    """

    def __init__(
        self, owner: _JointPosterior, parameters: tf.Tensor, labels: tf.Tensor | None
    ) -> None:
        super().__init__(owner, range(len(owner.sizes))[::-1], parameters, labels)
        sizes = [posterior.parameter_size for posterior in owner.posteriors]
        self.of_layers = tf.split(parameters, sizes, axis=-1)

    def _make_factor(self, layer: int, given: tf.Tensor | None) -> Distribution:
        upward = self.owner.posteriors[layer](self.of_layers[layer])
        if given is None:
            return upward
        return _precision_weighted(upward, self.prior.factor(layer, given))

    def _independent(self, layer: int) -> bool:
        return True  # q and p of layer i depend on z_{i+1} only


def _precision_weighted(a: Distribution, b: Distribution) -> Distribution:
    """Return the normalized product of the densities of two diagonal normal distributions.

    The product is a normal distribution. Its precision (1 / variance) is the sum of the precisions
    of `a` and `b`. Its mean is the average of the means of `a` and `b`, weighted by their
    precisions (Sønderby et al. 2016, arXiv:1602.02282).
    """
    from tensorflow_probability import distributions as tfd

    precision_a = tf.square(1 / a.stddev())
    precision_b = tf.square(1 / b.stddev())
    precision = precision_a + precision_b
    mean = (a.mean() * precision_a + b.mean() * precision_b) / precision
    return tfd.Independent(tfd.Normal(mean, tf.math.rsqrt(precision)), 1)


class _JointPrior(Prior):
    """The prior of a hierarchical VAE: one distribution over the latents of all its layers.

    The vector z_i contains the latents of layer i. A sample of the prior is the concatenation of
    these vectors.

    Args:
        top_prior: p(z_L), the prior of the top layer.
        decoders: One network per layer i except the top layer, from bottom to top. The network maps
            z_{i+1} to the parameters of p(z_i | z_{i+1}).
        conditionals: One `DiagonalNormal` per decoder. It makes the distribution p(z_i | z_{i+1})
            from the decoder's output.
        num_classes: Number of classes if the model is conditional, otherwise None.
    """

    def __init__(
        self,
        top_prior: Prior,
        decoders: Sequence[keras.Model],
        conditionals: Sequence[DiagonalNormal],
        num_classes: int | None,
    ) -> None:
        sizes = [each.event_size for each in (*conditionals, top_prior)]
        super().__init__(sum(sizes))
        self.sizes = sizes
        self.top_prior = top_prior
        self.decoders = list(decoders)
        self.conditionals = list(conditionals)
        self.num_classes = num_classes

    def __repr__(self) -> str:
        """Return the distribution of each layer, for error messages."""
        return f"{type(self).__name__}({[*self.conditionals, self.top_prior]})"

    def distribution(self, condition: TensorLike | None = None) -> LayeredDistribution:
        """Return the distribution over the latents of all layers."""
        labels = None if self.num_classes is None else self._checked_labels(condition)
        return _LayeredPrior(self, labels)

    def _sample_each_row(self, seeds: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return self.sample_from(seeds, labels if self.num_classes else None)

    def sample_from(
        self,
        seeds: tf.Tensor,
        labels: tf.Tensor | None,
        temperature: tf.Tensor | None = None,
        top_latents: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Sample the latents of all layers, with one seed per sample.

        Args:
            seeds: Seeds, int64 `[batch]`.
            labels: Labels `[batch]` if the model is conditional, otherwise None.
            temperature: Number by which the standard deviation of each distribution is multiplied.
                None means 1.
            top_latents: Latents of one or more upper layers, `[batch, m]`. If they are passed, the
                method samples only the other layers. If None, the method samples all layers.

        Returns:
            The concatenated latents of all layers, including `top_latents`, `[batch, n]`.
        """
        fixed = _top_parts(top_latents, self.sizes)
        distribution = _LayeredPrior(self, labels)
        top = len(self.sizes) - 1

        def sample_layer(layer: int, factor: Distribution) -> tf.Tensor:
            if layer in fixed:
                return fixed[layer]
            if layer == top:
                z = self.top_prior.sample_rows(seeds, labels)
            else:
                noise = _noise(seeds, _FIRST_FOLD + layer, self.sizes[layer])
                z = factor.mean() + factor.stddev() * noise
            if temperature is None:
                return z
            return factor.mean() + temperature * (z - factor.mean())

        return tf.concat(distribution._in_order(sample_layer), axis=-1)


def _noise(seeds: tf.Tensor, fold: int, size: int) -> tf.Tensor:
    """Return standard normal noise `[batch, size]`, with one seed per row."""

    def noise_of_row(seed: tf.Tensor) -> tf.Tensor:
        folded = tf.random.experimental.stateless_fold_in(tf.bitcast(seed, tf.int32), fold)
        return tf.random.stateless_normal((size,), folded)

    return tf.map_fn(noise_of_row, seeds, fn_output_signature=tf.TensorSpec((size,), tf.float32))


def _top_parts(top_latents: tf.Tensor | None, sizes: Sequence[int]) -> dict[int, tf.Tensor]:
    """Split the concatenated latents of the upper layers into the latents of each layer.

    Args:
        top_latents: Latents of one or more upper layers, `[batch, m]`, or None.
        sizes: Number of latents of each layer of the model, from bottom to top.

    Returns:
        Dictionary from the index of a layer to its latents, with one entry per upper layer. The
        bottom layer has the index 0. If `top_latents` is None, the dictionary is empty.
    """
    if top_latents is None:
        return {}
    first = _first_layer(top_latents.shape[-1], sizes)
    assert first is not None  # `generate` has checked the shape
    parts = tf.split(top_latents, sizes[first:], axis=-1)
    return dict(enumerate(parts, first))


def _first_layer(number: int, sizes: Sequence[int]) -> int | None:
    """Find the layer that, together with all layers above it, has `number` latents in total.

    For instance, if `number` is 6 and `sizes` is `[8, 4, 2]`, the result is 1, because 4 + 2 = 6.

    Args:
        number: Total number of latents of the found layer and all layers above it.
        sizes: Number of latents of each layer, from the bottom layer to the top layer.

    Returns:
        Index of the found layer, where 0 is the bottom layer. None if there is no such layer.
    """
    found = [layer for layer in range(len(sizes)) if sum(sizes[layer:]) == number]
    return found[0] if found else None


class _JointPosterior(Posterior):
    """The posterior of a hierarchical VAE: one distribution over the latents of all its layers.

    A sample of the posterior is the concatenation of the latent vectors of all layers.

    Args:
        posteriors: The posterior of each layer, from bottom to top.
        encoders: For bottom-up inference, the encoder network of each layer. For top-down
            inference, an empty list, because one network computes the parameters of all layers.
        prior: The prior over the latents of all layers.
        inference: `"bottom_up"` or `"top_down"`, as explained in the class `HierarchicalVAE`.
    """

    def __init__(
        self,
        posteriors: Sequence[Posterior],
        encoders: Sequence[keras.Model],
        prior: _JointPrior,
        inference: Inference,
    ) -> None:
        super().__init__(prior.event_size)
        self.posteriors = list(posteriors)
        self.encoders = list(encoders)
        self.prior = prior
        self.inference = inference
        self.sizes = [posterior.event_size for posterior in posteriors]

    def __repr__(self) -> str:
        """Return the posterior of each layer, for error messages."""
        return f"{type(self).__name__}({self.posteriors})"

    @property
    def parameter_size(self) -> int:
        """Size of the encoder's output for one example.

        If the model is conditional, the last number of the encoder's output is the label of the
        example. The size includes this number.
        """
        sizes = [posterior.parameter_size for posterior in self.posteriors]
        size = sizes[0] if self.inference == "bottom_up" else sum(sizes)
        return size + bool(self.prior.num_classes)

    def point(self, distribution: LayeredDistribution) -> tf.Tensor:
        """Return the latent vector that `VAE.reconstruct` decodes for each example, `[batch, n]`.

        The vector is the concatenation of one point estimate per layer, such as the mean of the
        layer's posterior.
        """
        return tf.concat(distribution.points(), axis=-1)

    def summary(self, distribution: LayeredDistribution) -> dict[str, tf.Tensor]:
        """Return tensors that describe the posterior of each layer, such as `mean_1`."""
        summaries = [
            posterior.summary(factor)
            for posterior, factor in zip(self.posteriors, distribution.layers, strict=True)
        ]
        return {
            f"{name}_{number}": value
            for number, summary in enumerate(summaries, 1)
            for name, value in summary.items()
        }

    def __call__(self, parameters: TensorLike) -> _LayeredPosterior:
        """Make q(z | x) from the output of the encoder, `[batch, parameter_size]`."""
        parameters = tf.cast(parameters, tf.float32)
        labels = None
        if self.prior.num_classes:
            labels = tf.cast(parameters[..., -1], tf.int32)
            parameters = parameters[..., :-1]
        kind = _BottomUp if self.inference == "bottom_up" else _TopDown
        return kind(self, parameters, labels)


# === The model ===


@keras.saving.register_keras_serializable("keras_gen")
class HierarchicalVAE(VAE):
    """A variational autoencoder with several layers of latents, z_1 (bottom) to z_L (top).

    The generative model is p(z_L) p(z_{L−1} | z_L) … p(z_1 | z_2) p(x | z_1). Each p(z_i | z_{i+1})
    is a normal distribution with a diagonal covariance, whose mean and scale a decoder computes.
    There are two kinds of inference:

    * `"bottom_up"`: q(z | x) = q(z_1 | x) q(z_2 | z_1) … (Burda et al. 2016, arXiv:1509.00519).
      Encoder 1 maps x to the parameters of posterior 1. Each further encoder i maps the latents
      z_{i−1} to the parameters of posterior i.
    * `"top_down"`: the ladder VAE (Sønderby et al. 2016, arXiv:1602.02282). The encoders compute
      features without sampling: encoder 1 maps x to features, and encoder i maps the features of
      encoder i − 1 to further features. A dense layer, which the model makes, maps the features of
      each encoder to a normal distribution. q(z_i | z_{i+1}, x) is proportional to the product of
      this normal distribution and p(z_i | z_{i+1}). For the top layer, q(z_L | x) is the normal
      distribution from the dense layer.

    Let n_i be the number of latents of layer i. In all methods of `VAE`, the latents are the
    concatenated latents of all layers, from bottom to top, `[batch, n_1 + … + n_L]`. `decode` uses
    only z_1, because x depends on the other layers only through z_1. The attributes `encoder`,
    `decoder`, `posterior` and `prior` combine the networks and the distributions of all layers.

    KL(q(z | x) ‖ p(z)) is a sum of one term per layer. The term of layer i is the mean of log q −
    log p of z_i. The objective gets these terms. The logs contain the terms as `kl_loss_1`, …, and
    their sum as `kl_loss`. With bottom-up inference, only the term of the top layer is itself a KL
    divergence, and the terms of the other layers can be negative.

    The model is conditional if a network has an input named `condition`, or if the top prior
    depends on labels, as for `VAE`.

    Args:
        encoders: Built Keras models, one per layer, from bottom to top. With bottom-up inference,
            the first encoder maps data to `[batch, posteriors[0].parameter_size]`, and encoder i
            maps latents `[batch, n_{i−1}]` to `[batch, posteriors[i − 1].parameter_size]`. With
            top-down inference, the outputs can have any shape.
        decoders: Built Keras models, one per layer, from bottom to top. The first decoder maps
            `[batch, n_1]` to the parameters of the likelihood. Decoder i maps `[batch, n_i]` to
            `[batch, 2 n_{i−1}]`. As for `distributions.DiagonalNormal`, the first half is the mean
            of p(z_{i−1} | z_i), and a softplus converts the second half to standard deviations.
        posteriors: The `distributions.Posterior` of each layer, from bottom to top. `event_size` is
            the number of latents n_i. For top-down inference, each posterior must be a
            `DiagonalNormal`.
        likelihood: p(x | z_1), for instance `distributions.Bernoulli((28, 28, 1))`.
        top_prior: p(z_L), a `distributions.Prior`. If None, a `distributions.StandardNormal`.
        inference: `"bottom_up"` or `"top_down"`. Default: `"bottom_up"`.
        seed: Seed of all random numbers of the model, an int in [0, 2³¹). If None, the seed is
            random.
        threshold: An example is an anomaly if its anomaly score is above this number. If None, call
            `calibrate` to compute the threshold.
        **kwargs: Arguments of `keras.Model`: `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If an argument has the wrong type, or if the numbers of layers, the shapes or
            the numbers of classes of the arguments do not match.

    Example:

    >>> from keras_gen import distributions, networks
    >>> posteriors = [distributions.DiagonalNormal(4), distributions.DiagonalNormal(2)]
    >>> vae = HierarchicalVAE(
    ...     encoders=[networks.mlp((6,), (8,), hidden=(5,)), networks.mlp((4,), (4,), hidden=(5,))],
    ...     decoders=[networks.mlp((4,), (6,), hidden=(5,)), networks.mlp((2,), (8,), hidden=(5,))],
    ...     posteriors=posteriors, likelihood=distributions.Bernoulli((6,)), seed=0)
    >>> vae.compile("adam")
    >>> history = vae.fit(tf.random.uniform((64, 6)), epochs=1, verbose=0).history
    >>> sorted(name for name in history if name.startswith("kl"))
    ['kl_loss', 'kl_loss_1', 'kl_loss_2']
    >>> [q.event_shape.as_list() for q in vae.encode(tf.zeros((3, 6))).layers]
    [[4], [2]]
    """

    computed_attributes = ("encoder", "decoder", "posterior", "prior")
    """Names of the attributes that the constructor computes from its arguments."""

    prior: _JointPrior
    posterior: _JointPosterior

    def __init__(
        self,
        encoders: Sequence[keras.Model],
        decoders: Sequence[keras.Model],
        posteriors: Sequence[Posterior],
        likelihood: Likelihood,
        top_prior: Prior | None = None,
        inference: Inference = "bottom_up",
        seed: int | None = None,
        threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        _check_layers(encoders, decoders, posteriors, inference)
        check_likelihood(likelihood)
        sizes = [posterior.event_size for posterior in posteriors]
        if top_prior is None:
            top_prior = StandardNormal(sizes[-1])
        _check_top_prior(top_prior, sizes[-1])
        _check_encoders(encoders, posteriors, likelihood, inference)
        _check_decoders(decoders, sizes, likelihood)
        num_classes = common_num_classes(
            **{f"encoders[{i}]": num_classes_of(network) for i, network in enumerate(encoders)},
            **{f"decoders[{i}]": num_classes_of(network) for i, network in enumerate(decoders)},
            top_prior=top_prior.num_classes,
        )
        for part in (*posteriors, top_prior):
            if not part.built:
                part.build(None)
        conditionals = [DiagonalNormal(size) for size in sizes[:-1]]
        prior = _JointPrior(top_prior, decoders[1:], conditionals, num_classes)
        upward = encoders if inference == "bottom_up" else ()
        layers = range(1, len(sizes) + 1)
        parts = ("reconstruction_loss", "kl_loss", *(f"kl_loss_{layer}" for layer in layers))
        self.loss_parts = (*parts, "regularization_loss", "elbo")
        self.evaluated_losses = self.loss_parts
        self.num_decoded = sizes[0]
        super().__init__(
            _joint_encoder(encoders, posteriors, inference, bool(num_classes)),
            _joint_decoder(decoders[0], sum(sizes)),
            _JointPosterior(posteriors, upward, prior, inference),
            likelihood,
            prior,
            seed,
            threshold,
            **kwargs,
        )
        self.encoders = list(encoders)
        self.decoders = list(decoders)
        self.posteriors = list(posteriors)
        self.top_prior = top_prior
        self.inference = inference

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure the model for training, like `VAE.compile`.

        `objectives.ELBO` applies its `free_bits` to each layer of latents. Its `kl_weight` can be a
        list with one weight or schedule per layer of latents. The first entry is for z_1, the
        layer that is next to the data.

        Raises:
            ValueError: As for `VAE.compile`. Also if the objective is an `IWAE` with
                `doubly_reparameterized=True` and the model has top-down inference, because the
                latents then also depend on the weights of the decoders.
        """
        super().compile(optimizer, objective, **kwargs)

    def _named_posteriors(self) -> dict[str, Posterior]:
        return {f"posteriors[{i}]": each for i, each in enumerate(self.posteriors)}

    def _check_doubly_reparameterized(self, objective: Objective) -> None:
        if self.inference != "bottom_up":
            raise ValueError(
                f"{objective} needs bottom-up inference. Received: a HierarchicalVAE with "
                f"inference={self.inference!r}. Use inference='bottom_up', or an IWAE with "
                "doubly_reparameterized=False."
            )
        super()._check_doubly_reparameterized(objective)

    def _objective_batch(self, batch: CheckedBatch, training: bool) -> Batch:
        inputs = super()._objective_batch(batch, training)
        posterior: Any = inputs.posterior
        posterior.training = training
        posterior.prior.training = training
        if self.inference == "bottom_up":
            inputs = dataclasses.replace(
                inputs, frozen_posterior=lambda: _FrozenBottomUp(posterior)
            )
        return dataclasses.replace(inputs, prior=posterior.prior, layer_kls=posterior.layer_kls)

    def _terms(self, batch: CheckedBatch, training: bool) -> dict[str, tf.Tensor]:
        terms = super()._terms(batch, training)
        if f"kl_loss_{len(self.posteriors)}" not in terms:
            raise ValueError(
                "`objective` must return `Terms` with `layer_kl_losses`, the KL divergence of each "
                f"of the {len(self.posteriors)} layers. Received: {self.objective!r}, which does "
                "not return them. Compute them with `Batch.layer_kls`, as `objectives.ELBO` does."
            )
        return terms

    def encode(self, x: Array, condition: TensorLike | None = None) -> LayeredDistribution:
        """Return the posterior q(z | x) of the latents of all layers.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            A `LayeredDistribution`. `sample()` returns the concatenated latents of all layers, and
            `split(z)` splits them. The attribute `layers` is a list with the distribution of each
            layer. If the distribution of a layer depends on the latents of another layer, it is
            computed for one value of these latents, such as their mean.
        """
        return super().encode(x, condition)

    def _score_samples(
        self, x: TensorLike, condition: TensorLike | None, num_samples: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # The loop over the examples calls networks, which a loop over zero examples cannot do.
        if tf.convert_to_tensor(x).shape[0] == 0:
            num_samples = positive_int(self, "num_samples", num_samples)
            return tf.zeros((num_samples, 0, self.posterior.event_size)), tf.zeros(0)
        return super()._score_samples(x, condition, num_samples)

    def generate(
        self,
        num_samples: int | None = None,
        seed: int | TensorLike | None = None,
        condition: TensorLike | None = None,
        temperature: float = 1.0,
        top_latents: TensorLike | None = None,
    ) -> tf.Tensor:
        """Generate data from latents that are sampled from the prior, like `VAE.generate`.

        Args:
            num_samples: Number of samples. Can be None if `seed` is a vector.
            seed: Seed of the samples, or one seed per sample, as for `VAE`.
            condition: Labels if the model is conditional, as for `VAE`.
            temperature: Number of at least 0, by which the standard deviations of the distributions
                p(z_L) and p(z_i | z_{i+1}) of the latents are multiplied. Below 1, the samples are
                more typical and less diverse. If the number is not 1, the prior p(z_L) of the top
                layer must be a normal distribution. Default: 1.
            top_latents: Latents of one or more upper layers. These layers are then not sampled. The
                argument is a matrix with one row per sample, or with a single row for all samples.
                For instance, let `z` be a sample of `encode(x)`, and let n_1 be the number of
                latents of the bottom layer. Then `z[:, n_1:]` fixes all layers except the bottom
                layer. If None, all layers are sampled.

        Returns:
            Tensor `[num_samples, *data_shape]`.

        Raises:
            ValueError: If an argument is invalid. If the model has a fitted density of its latents,
                and `temperature` is not 1 or `top_latents` is given.

        Example: vary the bottom layer only.

        >>> from keras_gen import distributions, networks
        >>> vae = HierarchicalVAE(
        ...     encoders=[networks.mlp((6,), (8,)), networks.mlp((4,), (4,))],
        ...     decoders=[networks.mlp((4,), (6,)), networks.mlp((2,), (8,))],
        ...     posteriors=[distributions.DiagonalNormal(4), distributions.DiagonalNormal(2)],
        ...     likelihood=distributions.Bernoulli((6,)), seed=0)
        >>> z = vae.latents(tf.ones((1, 6)))
        >>> vae.generate(5, seed=0, temperature=0.7, top_latents=z[:, 4:]).shape.as_list()
        [5, 6]
        """
        self._check_temperature(temperature)
        if temperature == 1 and top_latents is None:
            return super().generate(num_samples, seed, condition)
        if self.density is not None:
            raise ValueError(
                "`temperature` must be 1 and `top_latents` must be None for a model with a fitted "
                "density of its latents, because both refer to the prior. Received: "
                f"temperature={temperature!r} and the density {self.density!r}. "
                "Use a model without `fit_latent_density`."
            )
        seeds = self.seeds(num_samples, seed)
        if condition is not None and self.num_classes:
            condition = self._label_per_sample(condition, len(seeds), self.num_classes)
        if top_latents is not None:
            top_latents = self._checked_top_latents(top_latents, len(seeds))
        factor = None if temperature == 1 else tf.constant(temperature, tf.float32)
        return self._generate_from(seeds, condition, factor, top_latents)

    @traced("seed", "condition", "top_latents")
    def _generate_from(
        self,
        seed: tf.Tensor,
        condition: TensorLike | None,
        temperature: tf.Tensor | None,
        top_latents: tf.Tensor | None,
    ) -> tf.Tensor:
        [labels] = self._condition_arguments(condition, seed) or [None]
        latents = self.prior.sample_from(seed, labels, temperature, top_latents)
        return self.outputs_for(latents, seed, labels)

    def _check_temperature(self, temperature: float) -> None:
        """Raise a `ValueError` if `generate` cannot use a temperature."""
        from tensorflow_probability import distributions as tfd

        if not is_real(temperature) or not 0 <= temperature < float("inf"):
            raise ValueError(
                "`temperature` must be a number of at least 0, such as 0.7. "
                f"Received: temperature={temperature!r}."
            )
        labels = tf.zeros(1, tf.int32) if self.top_prior.num_classes else None
        distribution = self.top_prior.distribution(labels)
        normal = isinstance(getattr(distribution, "distribution", distribution), tfd.Normal)
        if temperature != 1 and not normal:
            raise ValueError(
                "`temperature` must be 1 unless `top_prior` is a normal distribution. "
                f"Received: temperature={temperature!r} and {self.top_prior!r}."
            )

    def _checked_top_latents(self, top_latents: TensorLike, num_samples: int) -> tf.Tensor:
        """Check the argument `top_latents` of `generate`, and return one row per sample."""
        values = tf.cast(as_tensor("top_latents", top_latents), tf.float32)
        sizes = self.posterior.sizes
        matrix = values.shape.rank == 2 and values.shape[0] in (1, num_samples)
        if not matrix or _first_layer(values.shape[1], sizes) is None:
            allowed = [sum(sizes[layer:]) for layer in reversed(range(len(sizes)))]
            raise ValueError(
                f"`top_latents` must have 1 or {num_samples} rows, and one column per latent of the"
                f" given upper layers: {' or '.join(map(str, allowed))} columns. Received: shape "
                f"{tuple(values.shape)}."
            )
        return tf.broadcast_to(values, (num_samples, values.shape[1]))


# === The combined networks ===


def _joint_encoder(
    encoders: Sequence[keras.Model],
    posteriors: Sequence[Posterior],
    inference: Inference,
    conditional: bool,
) -> keras.Model:
    """Return a network that computes the parameters of q(z | x) that depend only on the data x.

    All other parameters of q(z | x) depend on sampled latents. In bottom-up inference,
    q(z | x) = q(z_1 | x) q(z_2 | z_1) …, so the network outputs the parameters of q(z_1 | x). In
    top-down inference, the network outputs the parameters of one normal distribution per layer.
    For the top layer L, this distribution is q(z_L | x). For each other layer i,
    q(z_i | z_{i+1}, x) is the normalized product of the normal distribution of layer i and the
    prior p(z_i | z_{i+1}).

    If the model is conditional, the network also depends on the label. The last number of its
    output is then the label, because the networks that receive sampled latents need the label, too.
    """
    shape, _ = check_network("encoders[0]", encoders[0], labels=True)
    x = keras.Input(shape)
    label = label_input() if conditional else None
    features = _call(encoders[0], x, label)
    outputs = [features]
    if inference == "top_down":
        outputs = [_parameters_from(features, posteriors[0])]
        for encoder, posterior in zip(encoders[1:], posteriors[1:], strict=True):
            features = _call(encoder, features, label)
            outputs.append(_parameters_from(features, posterior))
    if label is None:
        inputs = x
    else:
        inputs = [x, label]
        outputs.append(keras.ops.cast(label, "float32")[:, None])
    if len(outputs) == 1:
        return keras.Model(inputs, outputs[0])
    return keras.Model(inputs, keras.layers.Concatenate(dtype="float32")(outputs))


def _parameters_from(features: keras.KerasTensor, posterior: Posterior) -> keras.KerasTensor:
    """Return the parameters of a posterior, computed from features by a dense layer."""
    flat = keras.layers.Flatten()(features)
    return keras.layers.Dense(posterior.parameter_size, dtype="float32")(flat)


def _joint_decoder(decoder: keras.Model, number: int) -> keras.Model:
    """Return a decoder whose input contains the latents of all layers.

    The returned decoder uses only the latents of the bottom layer, and ignores all other latents.

    Args:
        decoder: The network that decodes the latents of the bottom layer.
        number: Total number of latents in all layers.
    """
    (size,), _ = check_network("decoders[0]", decoder, labels=True)
    z = keras.Input((number,))
    label = None if condition_index(decoder) is None else label_input()
    outputs = _call(decoder, z[:, :size], label)
    return keras.Model(z if label is None else [z, label], outputs)


def _call(
    network: keras.Model, x: keras.KerasTensor, label: keras.KerasTensor | None
) -> keras.KerasTensor:
    """Call a network on a symbolic tensor, and on the label if the network uses labels."""
    index = condition_index(network)
    if index is None:
        return network(x)
    inputs = [x]
    inputs.insert(index, keras.ops.cast(label, network.inputs[index].dtype))
    return network(inputs)


# === Checks of the arguments ===


def _check_layers(encoders: Any, decoders: Any, posteriors: Any, inference: Any) -> None:
    """Check four arguments of the constructor of `HierarchicalVAE`.

    Raises:
        ValueError: If `encoders`, `decoders` or `posteriors` is not a list with one item per layer
            of latents. If a posterior is invalid. If `inference` is not one of the two allowed
            strings.
    """
    lists = {"encoders": encoders, "decoders": decoders, "posteriors": posteriors}
    for name, value in lists.items():
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(
                f"`{name}` must be a list with one item per layer, from bottom to top. "
                f"Received: {value!r}."
            )
    if len({len(value) for value in lists.values()}) > 1:
        received = ", ".join(f"{len(value)} {name}" for name, value in lists.items())
        raise ValueError(
            "`encoders`, `decoders` and `posteriors` must have one item per layer. "
            f"Received: {received}."
        )
    if inference not in ("bottom_up", "top_down"):
        raise ValueError(
            f"`inference` must be 'bottom_up' or 'top_down'. Received: inference={inference!r}."
        )
    for index, posterior in enumerate(posteriors):
        check_posterior(posterior, f"posteriors[{index}]")
        if inference == "top_down" and not isinstance(posterior, DiagonalNormal):
            raise ValueError(
                f"`posteriors[{index}]` must be a DiagonalNormal for inference='top_down', because "
                "top-down inference multiplies normal distributions. "
                f"Received: {posterior!r}. Use inference='bottom_up' for other posteriors."
            )


def _check_top_prior(top_prior: Any, size: int) -> None:
    """Raise a `ValueError` if an object cannot be the prior of the top layer."""
    check_prior(top_prior, size, labels=True, argument="top_prior")
    if type(top_prior).connect is not Prior.connect:
        raise ValueError(
            "`top_prior` must not depend on the encoder of the model. "
            f"Received: {top_prior!r}. Use NormalMixture in place of VampPrior."
        )


def _check_encoders(
    encoders: Sequence[keras.Model],
    posteriors: Sequence[Posterior],
    likelihood: Likelihood,
    inference: Inference,
) -> None:
    """Raise a `ValueError` if the shapes of the encoders do not match the other arguments."""
    input_shape: tuple[int, ...] = likelihood.event_shape
    why = f", the `event_shape` of `{type(likelihood).__name__}`"
    for index, (encoder, posterior) in enumerate(zip(encoders, posteriors, strict=True)):
        argument = f"encoders[{index}]"
        _, output_shape = check_network(argument, encoder, input_shape, why=why, labels=True)
        if inference == "top_down":
            input_shape = output_shape
            why = f", the output shape of `{argument}`"
            continue
        size = f", the `parameter_size` of `posteriors[{index}]`"
        check_network(argument, encoder, None, (posterior.parameter_size,), size, labels=True)
        input_shape = (posterior.event_size,)
        why = f", the `event_size` of `posteriors[{index}]`"


def _check_decoders(
    decoders: Sequence[keras.Model], sizes: Sequence[int], likelihood: Likelihood
) -> None:
    """Raise a `ValueError` if the shapes of the decoders do not match the other arguments."""
    output_shape: tuple[int, ...] = likelihood.parameter_shape
    why = f", the `parameter_shape` of `{type(likelihood).__name__}`"
    for index, (decoder, size) in enumerate(zip(decoders, sizes, strict=True)):
        argument = f"decoders[{index}]"
        latents = f", the `event_size` of `posteriors[{index}]`"
        check_network(argument, decoder, (size,), why=latents, labels=True)
        check_network(argument, decoder, None, output_shape, why, labels=True)
        output_shape = (2 * size,)
        why = f", the mean and the raw scale of each latent of `posteriors[{index}]`"
    if likelihood.logits:
        check_logits("decoders[0]", decoders[0])
