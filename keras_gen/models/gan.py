"""The generative adversarial network (MATH 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_gen._arguments import is_real, positive_int
from keras_gen._typing import Array, Data, Endpoint, TensorLike
from keras_gen.distributions import Prior, StandardNormal
from keras_gen.distributions._checks import check_distribution, check_prior
from keras_gen.fitting.collapse import CollapseWarning, duplicates
from keras_gen.fitting.data_check import DataCheck
from keras_gen.losses import AdversarialLoss, NonSaturating, Penalty
from keras_gen.models.base import GenerativeModel
from keras_gen.networks._checks import (
    check_logits,
    check_network,
    labels_of,
    number_of_labels,
    output_range,
)
from keras_gen.networks._copies import copy_of, float32_function, with_labels


class PlayersOptimizer(keras.optimizers.MultiOptimizer):
    """Two optimizers behind one face: Keras and its callbacks see one, each `apply` is one player's move.

    `keras.optimizers.MultiOptimizer` wants the gradients of all variables at once; players move in turn. `iterations` counts
    training steps and is advanced by the model.

    Args:
        generator_optimizer: Keras optimizer of the generator.
        discriminator_optimizer: Keras optimizer of the discriminator.
        discriminator: Whose variables go to the second.
    """

    def __init__(
        self,
        generator_optimizer: keras.optimizers.Optimizer,
        discriminator_optimizer: keras.optimizers.Optimizer,
        discriminator: keras.Model,
    ) -> None:
        of_discriminator = {id(variable) for variable in discriminator.variables}

        def owner(variable):
            return (
                discriminator_optimizer if id(variable) in of_discriminator else generator_optimizer
            )

        super().__init__(owner)
        self.owner = owner

    def apply(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable]
    ) -> None:
        """Apply one player's gradients with that player's optimizer."""
        self.owner(trainable_variables[0]).apply(grads, trainable_variables)

    @property
    def learning_rate(self) -> keras.Variable:
        """The generator's, for callbacks that show one; Keras's own change both players'."""
        return self.optimizers[0].learning_rate

    def get_config(self) -> dict[str, Any]:
        """Both optimizers, under the names of `GAN.compile`, which makes this object anew when a model is loaded."""
        players = map(keras.saving.serialize_keras_object, self.optimizers)
        return dict(zip(("generator_optimizer", "discriminator_optimizer"), players, strict=True))


@keras.saving.register_keras_serializable("keras_gen")
class GAN(GenerativeModel):
    """x̂ = generator(h) with h ~ p(h), and a discriminator γ = sigmoid(logit), each minimizing its own loss in turn (MATH 4).

    `gan(latents)` and `predict(latents)` are the generated data. A pair `(x, target)` in `fit` trains on the target. A prior that has
    weights learns them with the generator.

    The logs have both players' losses; `real_accuracy` and `fake_accuracy`, the shares of real and of generated examples that the
    discriminator takes for what they are; and `duplicates`, the share of generated examples that have a twin in their batch. `fit`
    warns if the last of these show a game that is over.

    Args:
        generator: Built Keras model from latents `[batch, prior.event_size]` to data. If it ends in a sigmoid, data outside
            [0, 1] are refused.
        discriminator: Built Keras model from data to one logit, `[batch, 1]`.
        prior: p(h), a `distributions.Prior`; `StandardNormal` of the generator's input size if None.
        averaged_generator: The running average of the generator's weights, which generates, evaluates and is exported; None until
            `compile(ema_momentum=...)` makes one.
        seed: Seed of the model's noise.
        **kwargs: `name`, `dtype` and `trainable` of the Keras model.

    If the discriminator and the generator, or the prior, have an input for labels, the GAN is conditional: `fit(x, labels)`,
    `generate(n, condition=labels)`, `discriminate(x, labels)`; called as a function it takes `(latents, labels)`.

    Example:

    >>> from keras_gen import losses, networks
    >>> gan = GAN(generator=networks.dcgan_generator(8, (28, 28, 1), filters=(8, 4)),
    ...           discriminator=networks.dcgan_discriminator((28, 28, 1), filters=(4, 8)), seed=0)
    >>> gan.compile(generator_optimizer=keras.optimizers.Adam(2e-4, 0.5), discriminator_optimizer=keras.optimizers.Adam(2e-4, 0.5),
    ...             penalties=[losses.R1(10.0)], ema_momentum=0.99)
    >>> history = gan.fit(tf.random.uniform((64, 28, 28, 1)), epochs=1, verbose=0)
    >>> sorted(history.history)
    ['discriminator_loss', 'duplicates', 'fake_accuracy', 'generator_loss', 'loss', 'penalty_loss', 'real_accuracy',
     'regularization_loss']
    """

    loss_parts = (
        *("generator_loss", "discriminator_loss", "penalty_loss", "regularization_loss"),
        *("real_accuracy", "fake_accuracy", "duplicates"),
    )
    compile_arguments = ("loss", "penalties", "discriminator_steps", "ema_momentum")
    monitor = None
    has_encoder = False
    generates_means = False

    prior: Prior

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        prior: Prior | None = None,
        averaged_generator: keras.Model | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        latent_shape, data_shape = check_network("generator", generator, labels=True)
        prior = StandardNormal(latent_shape[0]) if prior is None else prior
        check_prior(prior, latent_shape[0], labels=True)
        check_distribution(prior)
        why = ", the outputs of `generator` and one logit"
        check_network("discriminator", discriminator, data_shape, (1,), why=why, labels=True)
        check_logits("discriminator", discriminator)
        generating = number_of_labels(generator=labels_of(generator), prior=prior.num_classes)
        if (generating is None) != (labels_of(discriminator) is None):
            raise ValueError(
                "Expected labels both for the discriminator and for the generator or its prior, or for none of them. Received: "
                f"generator {labels_of(generator)}, prior {prior.num_classes}, discriminator {labels_of(discriminator)}."
            )
        num_classes = number_of_labels(generator=generating, discriminator=labels_of(discriminator))
        if averaged_generator is not None:
            check_network(
                "averaged_generator",
                averaged_generator,
                latent_shape,
                data_shape,
                why=", as `generator`",
                labels=True,
            )
            averaged_generator.trainable = False
        super().__init__(
            DataCheck(data_shape, *output_range(generator), num_classes), seed, **kwargs
        )
        self.generator = generator
        self.discriminator = discriminator
        self.prior = prior
        self.averaged_generator = averaged_generator

    def compile(  # type: ignore[override]  # of two optimizers in the place of one
        self,
        generator_optimizer: keras.optimizers.Optimizer | str = "adam",
        discriminator_optimizer: keras.optimizers.Optimizer | str = "adam",
        loss: AdversarialLoss | None = None,
        penalties: Penalty | Sequence[Penalty] | None = (),
        discriminator_steps: int = 1,
        ema_momentum: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure for training as `keras.Model.compile`, with an optimizer for each player.

        Args:
            generator_optimizer: Keras optimizer of the generator, or its name.
            discriminator_optimizer: Keras optimizer of the discriminator, or its name; not the same object.
            loss: Both players' formulas, a `losses.AdversarialLoss`; `losses.NonSaturating()` if None.
            penalties: Penalties on the discriminator's gradient, for instance `[losses.R1(10.0)]`.
            discriminator_steps: Moves of the discriminator for each of the generator, on the same real examples with new latents.
            ema_momentum: Momentum m of a running average of the generator's weights, such as 0.999, which then generates,
                evaluates and is exported (Yazıcı et al. 2019, arXiv:1806.04498): average ← m average + (1 − m) weights, with a
                smaller m at first, min(m, (1 + step)/(10 + step)) with the steps since this call. None for no average; a model that
                has one already then keeps it equal to the generator.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, `auto_scale_loss` of `keras.Model.compile`.

        Raises:
            ValueError: If any of these is not what it should be.
        """
        if kwargs.get("optimizer") is not None:
            raise ValueError(
                "A GAN has two players: give `generator_optimizer` and `discriminator_optimizer`, not `optimizer`."
            )
        loss = NonSaturating() if loss is None else loss
        generator_optimizer = keras.optimizers.get(generator_optimizer)
        discriminator_optimizer = keras.optimizers.get(discriminator_optimizer)
        if not isinstance(loss, AdversarialLoss):
            raise ValueError(
                f"`loss` of a GAN is a keras_gen.losses.AdversarialLoss, such as NonSaturating(). Received: {loss!r}"
            )
        penalties = (penalties,) if isinstance(penalties, Penalty) else tuple(penalties or ())
        if not all(isinstance(penalty, Penalty) for penalty in penalties):
            raise ValueError(
                f"`penalties` are keras_gen.losses.Penalty objects, such as [R1(10.0)]. Received: {penalties!r}"
            )
        discriminator_steps = positive_int(self, "discriminator_steps", discriminator_steps)
        if ema_momentum is not None and not (is_real(ema_momentum) and 0 <= ema_momentum < 1):
            raise ValueError(
                f"`ema_momentum` is a number in [0, 1) or None. Received: {ema_momentum!r}"
            )
        if generator_optimizer is discriminator_optimizer:
            raise ValueError(
                "Each player needs an optimizer of its own. Received the same object twice: make two."
            )
        if kwargs.get("metrics") or kwargs.get("weighted_metrics"):
            raise ValueError(
                "A GAN has no target that `metrics` could be computed from. Leave `metrics` out."
            )
        with self.distribute_strategy.scope():
            if ema_momentum is not None and self.averaged_generator is None:
                self.averaged_generator = copy_of(self.generator)
            self.discriminator_in_float32: Any = (
                float32_function(self.discriminator) if penalties else None
            )
        if self.averaged_generator is not None:
            self.averaged_generator.trainable = (
                False  # again, if `trainable` of the whole was changed
            )
        super().compile(
            PlayersOptimizer(generator_optimizer, discriminator_optimizer, self.discriminator),
            **kwargs,
        )
        self.loss = loss
        self.penalties = penalties
        self.discriminator_steps = discriminator_steps
        self.ema_momentum = ema_momentum

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile` was given; None before."""
        config = super().get_compile_config()
        if config:
            config.update(config.pop("optimizer")["config"])
        return config

    def fit(
        self,
        x: Data | None = None,
        y: Array | None = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Literal["auto", 0, 1, 2] = "auto",
        callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as the other models, and warn of a generator that collapsed or a discriminator that is never wrong."""
        warning = CollapseWarning()
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*keras.tree.flatten(callbacks or []), warning]
        elif not any(isinstance(callback, CollapseWarning) for callback in callbacks.callbacks):
            warning.set_model(self)
            callbacks.callbacks.append(warning)
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """The data that latents `inputs` `[batch, n]`, or a pair of latents and labels, are turned into."""
        latents, *labels = inputs if self.num_classes else (inputs,)
        if training:
            return with_labels(
                self.generator, latents, labels[0] if labels else None, training=True
            )
        return self.decode(latents, *labels)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The discriminator's moves on L_d, then the generator's on L_g."""
        _, x, labels, sample_weight = self._unpack_labelled(data)  # the target is what is learned
        *discriminator_seeds, generator_seed = self._seeds(
            x, self.discriminator_steps + 1, training=True
        )

        for seed in discriminator_seeds:
            generated = with_labels(
                self.generator, self._latents(x, labels, seed), labels, training=True
            )
            with tf.GradientTape() as tape:
                real_logits, fake_logits = (
                    self._logits(examples, labels, training=True) for examples in (x, generated)
                )
                discriminator_regularization = self.regularization_loss(self.discriminator)
                discriminator_loss = self.average(
                    self.loss.discriminator(real_logits, fake_logits), sample_weight
                )
                penalty_loss = self.average(
                    self._penalty(x, generated, labels, seed), sample_weight
                )
                loss = discriminator_loss + penalty_loss + discriminator_regularization
            terms = {"discriminator_loss": discriminator_loss, "penalty_loss": penalty_loss}
            discriminator_loss += self.minimize(
                tape, x, loss, self.discriminator.trainable_variables, terms
            )

        with tf.GradientTape() as tape:
            generated = with_labels(
                self.generator, self._latents(x, labels, generator_seed), labels, training=True
            )
            generator_loss = self._generator_loss(
                x, generated, labels, sample_weight, training=True
            )
            generator_regularization = self.regularization_loss(self.generator)
            loss = generator_loss + generator_regularization
        variables = self.generator.trainable_variables + self.prior.trainable_variables
        generator_loss += self.minimize(
            tape, x, loss, variables, {"generator_loss": generator_loss}
        )

        self._average_generator()
        self.optimizer.iterations.assign_add(1)
        return self._logs(
            *(x, generated, real_logits, fake_logits),
            generator_loss=generator_loss,
            discriminator_loss=discriminator_loss,
            penalty_loss=penalty_loss,
            regularization_loss=generator_regularization + discriminator_regularization,
        )

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Both players' losses on a batch, with noise that is the same in every evaluation, and without penalties."""
        _, x, labels, sample_weight = self._unpack_labelled(data)  # the target is what is learned
        [seed] = self._seeds(x, 1, training=False)
        generated = self.decode(self._latents(x, labels, seed), *self._given(labels))
        real_logits, fake_logits = (
            self._logits(examples, labels, training=False) for examples in (x, generated)
        )
        return self._logs(
            *(x, generated, real_logits, fake_logits),
            generator_loss=self._generator_loss(
                x, generated, labels, sample_weight, training=False
            ),
            discriminator_loss=self.average(
                self.loss.discriminator(real_logits, fake_logits), sample_weight
            ),
            penalty_loss=tf.zeros(()),
            regularization_loss=self.regularization_loss(self.generator)
            + self.regularization_loss(self.discriminator),
        )

    def _seeds(self, x, number, training):
        """A seed for each move; they wait for the checks of `x`, so that bad data leave even moving averages alone."""
        with tf.control_dependencies([x]):
            return tf.unstack(
                tf.random.experimental.stateless_split(self.noise_seed(training), number)
            )

    def _latents(self, x, labels, seed):
        """As many latents as `x` has examples, under a conditional prior those of their labels."""
        if self.prior.num_classes:
            return self.prior.distribution(labels).sample(seed=seed)
        return self.prior.distribution().sample(tf.shape(x)[0], seed=seed)

    def _logits(self, x, labels, training):
        return tf.cast(with_labels(self.discriminator, x, labels, training), tf.float32)

    def _generator_loss(self, x, generated, labels, sample_weight, training):
        """L_g; a loss that compares with real examples counts each pair with the weight of its real one."""
        logits = self._logits(generated, labels, training)
        if self.loss.paired:
            return self.average(
                self.loss.generator(logits, self._logits(x, labels, training)), sample_weight
            )
        return self.average(self.loss.generator(logits))

    def _penalty(self, x, generated, labels, seed):
        """The sum of the penalties, `[batch]`; one that is due every n steps counts n times then."""

        def logits(points):
            inputs = (
                [points, tf.cast(labels, tf.int32)] if labels_of(self.discriminator) else points
            )
            return self.discriminator_in_float32(inputs, training=True)

        total = tf.zeros(tf.shape(x)[0])
        generated = tf.cast(generated, tf.float32)
        for number, penalty in enumerate(self.penalties):
            of_penalty = tf.random.experimental.stateless_fold_in(seed, number)

            def value(penalty=penalty, of_penalty=of_penalty):
                return penalty.every * penalty(logits, x, generated, of_penalty)

            due = tf.equal(tf.convert_to_tensor(self.optimizer.iterations) % penalty.every, 0)
            total += (
                value()
                if penalty.every == 1
                else tf.cond(due, value, lambda: tf.zeros(tf.shape(x)[0]))
            )
        return total

    def _average_generator(self):
        """Move the averaged generator, its moving statistics too, towards the generator."""
        if self.averaged_generator is None:
            return
        step = tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.float32)
        momentum = tf.minimum(self.ema_momentum or 0.0, (1 + step) / (10 + step))
        networks = self.averaged_generator.variables, self.generator.variables
        pairs = [
            (average.value, variable.value) for average, variable in zip(*networks, strict=True)
        ]

        def move(average, value):
            average.assign(
                momentum * average + (1 - momentum) * value if average.dtype.is_floating else value
            )

        def move_all(strategy):
            for average, variable in pairs:
                strategy.extended.update(average, move, args=(variable,))

        tf.distribute.get_replica_context().merge_call(move_all)

    def _logs(self, x, generated, real_logits, fake_logits, **losses):
        boundary = self.loss.boundary(real_logits, fake_logits)
        diagnostics = {
            "real_accuracy": tf.cast(real_logits > boundary, tf.float32)[:, 0],
            "fake_accuracy": tf.cast(fake_logits < boundary, tf.float32)[:, 0],
            "duplicates": duplicates(generated, x),
        }
        diagnostics = {name: self.average(values) for name, values in diagnostics.items()}
        self.log(x, loss=tf.add_n(list(losses.values())), **losses, **diagnostics)
        return self.get_metrics_result()

    def decode(self, latents: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """The data that `latents` `[batch, n]` are turned into, by the averaged generator if there is one."""
        self._given(condition)
        return with_labels(
            self.averaged_generator or self.generator, latents, condition, training=False
        )

    def discriminate(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """The discriminator's γ ∈ [0, 1], `[batch]`: its probability that each example is real."""
        self._given(condition)
        return tf.squeeze(tf.sigmoid(self._logits(x, condition, training=False)), -1)

    def signatures(self) -> dict[str, Endpoint]:
        """The serving contract: `serving_default` (as `generate`), `decode`, `generate` and `discriminate`, with a `condition`."""
        latents, condition = (
            tf.TensorSpec((None, self.prior.event_size), tf.float32, name="latents"),
            self._condition_specs(),
        )
        return {
            "serving_default": (self.generate_rows, [self._seed_spec(), *condition]),
            "decode": (lambda *latents: {"outputs": self.decode(*latents)}, [latents, *condition]),
            "generate": (self.generate_rows, [self._seed_spec(), *condition]),
            "discriminate": (
                lambda *inputs: {"probability": self.discriminate(*inputs)},
                [self._data_spec(), *condition],
            ),
        }
