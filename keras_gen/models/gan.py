"""The generative adversarial network (GAN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_gen._arguments import is_real, positive_int
from keras_gen._tracing import traced
from keras_gen._typing import Array, Data, Endpoint, TensorLike
from keras_gen.augmentations import DiffAugment
from keras_gen.distributions import Prior, StandardNormal
from keras_gen.distributions._checks import check_distribution, check_prior
from keras_gen.fitting.collapse import CollapseWarning, near_duplicates
from keras_gen.fitting.data_check import DataCheck
from keras_gen.fitting.gan_optimizer import GANOptimizer, ScaledGANOptimizer, network_optimizer
from keras_gen.fitting.loss_check import per_example
from keras_gen.losses import AdversarialLoss, NonSaturating, Penalty
from keras_gen.models.base import CheckedBatch, GenerativeModel
from keras_gen.networks._checks import (
    check_logits,
    check_network,
    common_num_classes,
    num_classes_of,
    output_range,
)
from keras_gen.networks._copies import call_network, copy_of, float32_function, network_inputs

_EVERY_STEP = -1
_SEED_OF_REAL = 1_000_000  # no penalty has this number
_16_BITS = ("bfloat16", "float16")


@keras.saving.register_keras_serializable("keras_gen")
class GAN(GenerativeModel):
    """A generative adversarial network (GAN).

    The generator maps latents h, which are sampled from a prior p(h), to data. The discriminator
    outputs a logit for each example. The number γ = sigmoid(logit) estimates the probability that
    the example is real (Goodfellow et al. 2014, arXiv:1406.2661). The two networks have different
    losses. Each training step updates the discriminator first and the generator second. A prior
    with weights is trained together with the generator. `gan(latents)` and `gan.predict(latents)`
    return generated data. If a GAN without labels receives pairs `(x, target)` in `fit`, it learns
    to generate data like `target`, and does not use `x`.

    The logs contain the losses of both networks, and three fractions. `real_accuracy` is the
    fraction of real examples that the discriminator classifies correctly. `fake_accuracy` is the
    fraction of generated examples that it classifies correctly. `duplicates` is the fraction of
    generated examples that are almost equal to another generated example of their batch. If the
    number of steps per epoch is known, `fit` computes `duplicates` in only one step of each epoch.
    `fit` warns if the logs show that training has failed.

    The GAN is conditional if the discriminator has an input `condition` for labels. Then the
    generator, the prior or both must also depend on labels. Pass the labels as in `fit(x, labels)`,
    `generate(n, condition=labels)`, `discriminate(x, labels)` and `gan((latents, labels))`.

    Args:
        generator: Built Keras model that maps latents `[batch, prior.event_size]` to data. If its
            last activation is a sigmoid, the training data must lie in [0, 1]. If its last
            activation is tanh, the training data must lie in [-1, 1].
        discriminator: Built Keras model that maps data to one logit per example, `[batch, 1]`.
        prior: p(h), a `distributions.Prior`. Default: a `distributions.StandardNormal` with as many
            dimensions as the input of the generator.
        averaged_generator: The EMA generator: a copy of the generator whose weights are an
            exponential moving average (EMA) of the generator's weights. If the GAN has an EMA
            generator, generation, evaluation and export use it instead of the generator. If this
            argument is None, `compile(ema_momentum=...)` makes an EMA generator. Default: None.
        seed: Seed of all random numbers of the model, an int in [0, 2³¹). If None, the seed is
            random.
        **kwargs: Arguments of `keras.Model`: `name`, `dtype` and `trainable`.

    Example:
        >>> from keras_gen import losses, networks
        >>> gan = GAN(
        ...     generator=networks.dcgan_generator(8, (28, 28, 1), filters=(8, 4)),
        ...     discriminator=networks.dcgan_discriminator((28, 28, 1), filters=(4, 8)),
        ...     seed=0)
        >>> gan.compile(
        ...     generator_optimizer=keras.optimizers.Adam(2e-4, 0.5),
        ...     discriminator_optimizer=keras.optimizers.Adam(2e-4, 0.5),
        ...     penalties=[losses.R1(10.0)], ema_momentum=0.99)
        >>> history = gan.fit(tf.random.uniform((64, 28, 28, 1)), epochs=1, verbose=0)
        >>> sorted(history.history)
        ['discriminator_loss', 'duplicates', 'fake_accuracy', 'generator_loss', 'loss',
         'penalty_loss', 'real_accuracy', 'regularization_loss']
    """

    loss_parts = (
        "generator_loss",
        "discriminator_loss",
        "penalty_loss",
        "regularization_loss",
        "real_accuracy",
        "fake_accuracy",
        "duplicates",
    )
    compile_arguments = ("loss", "penalties", "discriminator_steps", "ema_momentum", "augment")
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
        why = ", because it maps the outputs of `generator` to one logit"
        check_network("discriminator", discriminator, data_shape, (1,), why=why, labels=True)
        check_logits("discriminator", discriminator)
        num_classes = _common_num_classes(generator, discriminator, prior)
        if averaged_generator is not None:
            if averaged_generator is generator:
                raise ValueError(
                    "`averaged_generator` must be another network than `generator`, because it is "
                    "not trained. Received: the same network twice. Pass `ema_momentum` to "
                    "`compile`, which makes a copy."
                )
            why = ", like `generator`"
            check_network(
                "averaged_generator",
                averaged_generator,
                latent_shape,
                data_shape,
                why=why,
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
        every_step = tf.constant(_EVERY_STEP, tf.int64)
        self._near_duplicate_step = tf.Variable(every_step, trainable=False)

    def compile(  # type: ignore[override]  # two optimizers instead of one
        self,
        generator_optimizer: keras.optimizers.Optimizer | str = "adam",
        discriminator_optimizer: keras.optimizers.Optimizer | str = "adam",
        loss: AdversarialLoss | None = None,
        penalties: Penalty | Sequence[Penalty] | None = (),
        discriminator_steps: int = 1,
        ema_momentum: float | None = None,
        augment: DiffAugment | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure the model for training, like `keras.Model.compile`, but with two optimizers.

        Args:
            generator_optimizer: Keras optimizer of the generator, or the name of a Keras optimizer.
                Default: `"adam"`.
            discriminator_optimizer: Keras optimizer of the discriminator, or the name of a Keras
                optimizer. The two optimizers must not be the same object. Default: `"adam"`.
            loss: A `losses.AdversarialLoss`, which defines the losses of both networks. Default:
                `losses.NonSaturating()`.
            penalties: One `losses.Penalty`, or a list of penalties, for instance
                `[losses.R1(10.0)]`. A penalty is a term of the discriminator's loss that is
                computed from the gradient of the discriminator. Default: no penalty.
            discriminator_steps: Number of discriminator updates per generator update. All updates
                of a training step use the same real examples, but each update samples new latents.
                Default: 1.
            ema_momentum: Momentum m of the EMA generator, such as 0.999 (Yazıcı et al. 2019,
                arXiv:1806.04498). The weights of the EMA generator are an exponential moving
                average (EMA) of the generator's weights. Each training step computes
                average ← m · average + (1 − m) · weights. In the first steps, m is replaced by
                (1 + step) / (10 + step), as long as this number is smaller. If None, `compile`
                makes no EMA generator. If the GAN already has an EMA generator and the momentum is
                None, each step copies the generator's weights to the EMA generator.
            augment: An `augmentations.DiffAugment` for data sets of few images. During training, it
                randomly changes the real and the generated images that the discriminator receives.
                Default: no augmentation.
            **kwargs: Arguments of `keras.Model.compile`: `run_eagerly`, `steps_per_execution`,
                `jit_compile` and `auto_scale_loss`.

        Raises:
            ValueError: If an argument is invalid.
        """
        if kwargs.get("optimizer") is not None:
            raise ValueError(
                "A GAN has two optimizers: give `generator_optimizer` and "
                "`discriminator_optimizer` instead of `optimizer`."
            )
        loss = NonSaturating() if loss is None else loss
        if not isinstance(loss, AdversarialLoss):
            raise ValueError(
                "`loss` of a GAN must be a keras_gen.losses.AdversarialLoss, such as "
                f"NonSaturating(). Received: {loss!r}"
            )
        penalties = (penalties,) if isinstance(penalties, Penalty) else tuple(penalties or ())
        if not all(isinstance(penalty, Penalty) for penalty in penalties):
            raise ValueError(
                "`penalties` must be keras_gen.losses.Penalty objects, such as [R1(10.0)]. "
                f"Received: {penalties!r}"
            )
        discriminator_steps = positive_int(self, "discriminator_steps", discriminator_steps)
        if ema_momentum is not None and not (is_real(ema_momentum) and 0 <= ema_momentum < 1):
            raise ValueError(
                f"`ema_momentum` must be a number in [0, 1) or None. Received: {ema_momentum!r}"
            )
        _check_augment(augment, self.data_shape)
        generator_optimizer = network_optimizer("generator", generator_optimizer)
        discriminator_optimizer = network_optimizer("discriminator", discriminator_optimizer)
        if generator_optimizer is discriminator_optimizer:
            raise ValueError(
                "The generator and the discriminator each need an optimizer of their own. "
                "Received: the same object twice. Make two optimizers."
            )
        if kwargs.get("metrics") or kwargs.get("weighted_metrics"):
            raise ValueError(
                "A GAN cannot compute `metrics`, since its data have no targets. Omit `metrics`."
            )
        with self.distribute_strategy.scope():
            if ema_momentum is not None and self.averaged_generator is None:
                # In 16 bits, an average would not change when a small change is added.
                of_16_bits = any(each.dtype in _16_BITS for each in self.generator.variables)
                self.averaged_generator = copy_of(self.generator, "float32" if of_16_bits else None)
            self.discriminator_in_float32: Any = None
            if penalties:
                self.discriminator_in_float32 = float32_function(self.discriminator)
        if self.averaged_generator is not None:
            self.averaged_generator.trainable = False  # the user may have set it to True
        optimizer = GANOptimizer(generator_optimizer, discriminator_optimizer, self.discriminator)
        if kwargs.get("auto_scale_loss", True) and self.dtype_policy.name == "mixed_float16":
            optimizer = ScaledGANOptimizer(optimizer, name="loss_scale_optimizer")
        super().compile(optimizer, **kwargs)
        self.loss = loss
        self.penalties = penalties
        self.discriminator_steps = discriminator_steps
        self.ema_momentum = ema_momentum
        self.augment = augment

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile`, or None if the model is not compiled."""
        config = super().get_compile_config()
        if config:
            optimizer = config.pop("optimizer")["config"]
            config.update(optimizer.get("inner_optimizer", {}).get("config", optimizer))
        return config

    @property
    def near_duplicate_step(self) -> int | None:
        """The training step in which the GAN counts near-duplicates. None means every step.

        Steps are counted from 0, over all epochs. Near-duplicates are generated examples of a batch
        that are almost equal. To save time, `fit` counts them in only one step per epoch, if the
        number of steps per epoch is known. For this purpose, `fit` changes the value in each epoch.
        """
        step = int(tf.convert_to_tensor(self._near_duplicate_step))
        return None if step == _EVERY_STEP else step

    @near_duplicate_step.setter
    def near_duplicate_step(self, step: int | None) -> None:
        self._near_duplicate_step.assign(_EVERY_STEP if step is None else step)

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
        """Train the model, like `GenerativeModel.fit`, and warn if training has failed.

        There are two warnings. `fit` gives each of them at most once, after an epoch with at least
        1,000 examples:

        - The generator has collapsed: over half of its examples have a near-duplicate in the batch.
        - The discriminator classifies at least 99.9% of the real examples, and at least 99.9% of
          the generated examples, correctly. If the attribute `relative` of the loss is True, `fit`
          does not give this warning.
        """
        warning = CollapseWarning()
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*keras.tree.flatten(callbacks or []), warning]
        elif not any(isinstance(callback, CollapseWarning) for callback in callbacks.callbacks):
            warning.set_model(self)
            callbacks.callbacks.append(warning)
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Generate data from latents `[batch, n]`, with n latents per example.

        If the GAN is conditional, pass the pair `(latents, labels)`. If `training` is False and the
        GAN has an EMA generator, the method uses the EMA generator.
        """
        inputs = self.check_inputs(inputs)
        latents, labels = inputs if self.num_classes else (inputs, None)
        if training:
            return call_network(self.generator, latents, labels, training=True)
        return self._generated(latents, labels)

    def check_inputs(self, inputs: Any) -> Any:
        """Check the inputs of `call`, and return them as tensors.

        The inputs are latents `[batch, n]`. If the GAN is conditional, they are the pair
        `(latents, labels)`.

        Raises:
            ValueError: If the inputs are invalid. In a TensorFlow graph, an assertion fails if
                values are invalid.
        """
        latents, *labels = self.split_inputs(inputs)
        latents = self.checked_latents(latents, (self.prior.event_size,))
        if not labels:
            return latents
        return (latents, *self._condition_arguments(labels[0], latents))

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Train the discriminator and then the generator on one batch, and return the logs."""
        batch = self.unpack(data)
        # In a graph, every change of a variable waits for the check of the data. Spectral
        # normalization also changes variables.
        with tf.control_dependencies([batch.target]):
            return self._train_on(batch)

    def _train_on(self, batch: CheckedBatch) -> dict[str, tf.Tensor]:
        """Train both networks on a batch whose values are already checked, and return the logs."""
        x = batch.target  # the GAN learns to generate targets
        labels = batch.labels
        weight = batch.sample_weight
        *discriminator_seeds, generator_seed = self._seeds(
            x, self.discriminator_steps + 1, training=True
        )

        for seed in discriminator_seeds:
            latents = self._sample_latents(x, labels, seed)
            generated = call_network(self.generator, latents, labels, training=True)
            real, fake = self._augmented(x, generated, seed)
            with tf.GradientTape() as tape:
                real_logits = self._logits(real, labels, training=True)
                fake_logits = self._logits(fake, labels, training=True)
                discriminator_regularization = self.regularization_loss(self.discriminator)
                of_examples = self._discriminator_loss(x, real_logits, fake_logits)
                discriminator_loss = self.average(of_examples, weight)
                penalty_loss = self.average(self._penalty(real, fake, labels, seed), weight)
                loss = discriminator_loss + penalty_loss + discriminator_regularization
            terms = {"discriminator_loss": discriminator_loss, "penalty_loss": penalty_loss}
            variables = self.discriminator.trainable_variables
            discriminator_loss += self.minimize(tape, x, loss, variables, terms)

        with tf.GradientTape() as tape:
            latents = self._sample_latents(x, labels, generator_seed)
            generated = call_network(self.generator, latents, labels, training=True)
            real, fake = self._augmented(x, generated, generator_seed)
            generator_loss = self._generator_loss(real, fake, labels, weight, training=True)
            generator_regularization = self.regularization_loss(self.generator)
            loss = generator_loss + generator_regularization
        variables = self.generator.trainable_variables + self.prior.trainable_variables
        terms = {"generator_loss": generator_loss}
        generator_loss += self.minimize(tape, x, loss, variables, terms)

        self._update_averaged_generator()
        step = tf.cast(self.optimizer.iterations, tf.int64)
        chosen = tf.convert_to_tensor(self._near_duplicate_step)
        count_near_duplicates = tf.equal(chosen, step) | tf.equal(chosen, _EVERY_STEP)
        self.optimizer.iterations.assign_add(1)
        return self._logs(
            x,
            generated,
            real_logits,
            fake_logits,
            count_near_duplicates,
            generator_loss=generator_loss,
            discriminator_loss=discriminator_loss,
            penalty_loss=penalty_loss,
            regularization_loss=generator_regularization + discriminator_regularization,
        )

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Compute the losses of both networks on one batch, and return the logs.

        Penalties are not computed. Every evaluation of the same data uses the same latents.
        """
        batch = self.unpack(data)
        x = batch.target
        labels = batch.labels
        first_batch = tf.equal(self.part_trackers[0].count, 0)
        [seed] = self._seeds(x, 1, training=False)
        generated = self._generated(self._sample_latents(x, labels, seed), labels)
        real_logits = self._logits(x, labels, training=False)
        fake_logits = self._logits(generated, labels, training=False)
        of_examples = self._discriminator_loss(x, real_logits, fake_logits)
        generator_regularization = self.regularization_loss(self.generator)
        discriminator_regularization = self.regularization_loss(self.discriminator)
        return self._logs(
            x,
            generated,
            real_logits,
            fake_logits,
            first_batch,
            generator_loss=self._generator_loss(
                x, generated, labels, batch.sample_weight, training=False
            ),
            discriminator_loss=self.average(of_examples, batch.sample_weight),
            penalty_loss=tf.zeros(()),
            regularization_loss=generator_regularization + discriminator_regularization,
        )

    def _seeds(self, x: tf.Tensor, number: int, training: bool) -> list[tf.Tensor]:
        """Return `number` random seeds, one per update of a network.

        In a TensorFlow graph, the seeds are computed only after the batch `x` has passed its check.
        Each update needs a seed. Therefore a step with invalid data fails before it changes a
        weight or a moving average.
        """
        with tf.control_dependencies([x]):
            seed = self.noise_seed(training)
            return tf.unstack(tf.random.experimental.stateless_split(seed, number))

    def _sample_latents(self, x: tf.Tensor, labels: tf.Tensor | None, seed: tf.Tensor) -> tf.Tensor:
        """Sample one latent vector from the prior for each example of `x`.

        If the prior depends on labels, each latent vector is sampled given the label of its
        example.
        """
        if self.prior.num_classes:
            return self.prior.distribution(labels).sample(seed=seed)
        return self.prior.distribution().sample(tf.shape(x)[0], seed=seed)

    def _augmented(
        self, x: tf.Tensor, generated: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the real and the generated examples for the discriminator.

        If the GAN has an augmentation, the augmentation changes all these examples at random.
        """
        if self.augment is None:
            return x, generated
        fold_in = tf.random.experimental.stateless_fold_in
        real = self.augment(x, fold_in(seed, _SEED_OF_REAL))
        return real, self.augment(generated, fold_in(seed, _SEED_OF_REAL + 1))

    def _logits(self, x: tf.Tensor, labels: tf.Tensor | None, training: bool) -> tf.Tensor:
        return tf.cast(call_network(self.discriminator, x, labels, training), tf.float32)

    def _generator_loss(
        self,
        x: tf.Tensor,
        generated: tf.Tensor,
        labels: tf.Tensor | None,
        sample_weight: tf.Tensor | None,
        training: bool,
    ) -> tf.Tensor:
        """Return the loss of the generator, averaged over the batch.

        If the attribute `paired` of the GAN loss is True, the loss compares each generated example
        with one real example. In this case, the loss of each such pair is multiplied by the sample
        weight of its real example. If `paired` is False, `sample_weight` is not used.
        """
        logits = self._logits(generated, labels, training)
        what = f"`generator` of {type(self.loss).__name__}"
        if not self.loss.paired:
            return self.average(per_example(what, self.loss.generator(logits), x))
        real_logits = self._logits(x, labels, training)
        of_pairs = per_example(what, self.loss.generator(logits, real_logits), x)
        return self.average(of_pairs, sample_weight)

    def _discriminator_loss(
        self, x: tf.Tensor, real_logits: tf.Tensor, fake_logits: tf.Tensor
    ) -> tf.Tensor:
        """Return the loss of the discriminator for each example of `x`, `[batch]`."""
        what = f"`discriminator` of {type(self.loss).__name__}"
        return per_example(what, self.loss.discriminator(real_logits, fake_logits), x)

    def _penalty(
        self, x: tf.Tensor, generated: tf.Tensor, labels: tf.Tensor | None, seed: tf.Tensor
    ) -> tf.Tensor:
        """Return the sum of all penalties, one value per example, `[batch]`.

        A penalty is a term of the discriminator's loss. If a penalty is computed only in every n-th
        step, it is multiplied by n. Therefore the mean penalty over many steps is about the same
        for every n.
        """

        def logits(points: tf.Tensor) -> tf.Tensor:
            inputs = network_inputs(self.discriminator, points, labels)
            return self.discriminator_in_float32(inputs, training=True)

        nothing = tf.zeros(tf.shape(x)[0])
        total = nothing
        generated = tf.cast(generated, tf.float32)
        for number, penalty in enumerate(self.penalties):
            penalty_seed = tf.random.experimental.stateless_fold_in(seed, number)

            def value(penalty: Penalty = penalty, seed: tf.Tensor = penalty_seed) -> tf.Tensor:
                of_examples = penalty(logits, x, generated, seed)
                return penalty.every * per_example(type(penalty).__name__, of_examples, x)

            if penalty.every == 1:
                total += value()
                continue
            step = tf.convert_to_tensor(self.optimizer.iterations)
            total += tf.cond(tf.equal(step % penalty.every, 0), value, lambda: nothing)
        return total

    def _update_averaged_generator(self) -> None:
        """Update the EMA generator after a training step.

        The EMA generator is a copy of the generator. Its weights and batch-normalization statistics
        are exponential moving averages (EMA) of the values in the generator. If the attribute
        `ema_momentum` is None, the method copies the current values of the generator instead.
        """
        if self.averaged_generator is None:
            return
        step = tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.float32)
        momentum = tf.minimum(self.ema_momentum or 0.0, (1 + step) / (10 + step))
        pairs = [
            (average.value, variable.value)
            for average, variable in zip(
                self.averaged_generator.variables, self.generator.variables, strict=True
            )
        ]

        def update(average: tf.Variable, value: tf.Tensor) -> None:
            if average.dtype.is_floating:
                m = tf.cast(momentum, average.dtype)
                value = m * average + (1 - m) * tf.cast(value, average.dtype)
            average.assign(value)

        def update_all(strategy: tf.distribute.Strategy) -> None:
            for average, variable in pairs:
                strategy.extended.update(average, update, args=(variable,))

        tf.distribute.get_replica_context().merge_call(update_all)

    def _logs(
        self,
        x: tf.Tensor,
        generated: tf.Tensor,
        real_logits: tf.Tensor,
        fake_logits: tf.Tensor,
        count_near_duplicates: tf.Tensor,
        **losses: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Update the logged losses and accuracies with one batch, and return the logs.

        If `count_near_duplicates` is true, also update `duplicates`, the fraction of generated
        examples that are almost equal to another generated example.
        """
        boundary = self.loss.boundary(real_logits, fake_logits)
        correct_real = tf.cast(real_logits > boundary, tf.float32)[:, 0]
        correct_fake = tf.cast(fake_logits < boundary, tf.float32)[:, 0]
        self.log(
            x,
            loss=tf.add_n(list(losses.values())),
            **losses,
            real_accuracy=self.average(correct_real),
            fake_accuracy=self.average(correct_fake),
        )
        self._log_near_duplicates(x, generated, count_near_duplicates)
        return self.get_metrics_result()

    def _log_near_duplicates(
        self, x: tf.Tensor, generated: tf.Tensor, count_near_duplicates: tf.Tensor
    ) -> None:
        examples = tf.shape(x)[0]

        def share() -> tf.Tensor:
            return self.average(near_duplicates(generated, x)) * self._replicas

        value = tf.cond(count_near_duplicates, share, lambda: tf.zeros(()))
        tracker = self.part_trackers[self.loss_parts.index("duplicates")]
        tracker.update_state(value, tf.where(count_near_duplicates, examples, 0))

    @traced("latents", "condition")
    def decode(self, latents: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Map latents `[batch, n]` to generated data `[batch, *data_shape]`.

        If the GAN has an EMA generator, this method uses it instead of the generator. The EMA
        generator is a copy of the generator, whose weights are an exponential moving average (EMA)
        of the generator's weights.

        Args:
            latents: Latents `[batch, n]`. n is the number of latents of the prior.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
        """
        latents = self.checked_latents(latents, (self.prior.event_size,))
        return self._generated(latents, *self._condition_arguments(condition, latents))

    def _generated(self, latents: tf.Tensor, labels: tf.Tensor | None = None) -> tf.Tensor:
        """Map latents to generated data, like `decode`, but without a check of the arguments."""
        generator = self.averaged_generator or self.generator
        return call_network(generator, latents, labels, training=False)

    @traced("x", "condition")
    def discriminate(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Return the discriminator's probability γ that each example is real, `[batch]`.

        γ is the sigmoid of the discriminator's logit.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
        """
        x, labels = self.checked_arguments(x, condition)
        return tf.squeeze(tf.sigmoid(self._logits(x, labels, training=False)), -1)

    def signatures(self) -> dict[str, Endpoint]:
        """Return the functions that `export` writes, as a dictionary from names to pairs.

        A pair consists of a function and a list with the `tf.TensorSpec` of each of its arguments.
        The names are `serving_default`, `decode`, `generate` and `discriminate`. `serving_default`
        is the same function as `generate`. If the model is conditional, each function has an
        additional argument `condition`.
        """
        condition = self._condition_specs()
        seed = [self._seed_spec(), *condition]
        size = self.prior.event_size
        latents = [tf.TensorSpec((None, size), tf.float32, name="latents"), *condition]
        return {
            "serving_default": (self.generate_rows, seed),
            "decode": (lambda *inputs: {"outputs": self.decode(*inputs)}, latents),
            "generate": (self.generate_rows, seed),
            "discriminate": (
                lambda *inputs: {"probability": self.discriminate(*inputs)},
                [self._data_spec(), *condition],
            ),
        }


def _check_augment(augment: DiffAugment | None, data_shape: tuple[int, ...]) -> None:
    """Check the argument `augment` of `GAN.compile`."""
    if augment is None:
        return
    if not isinstance(augment, DiffAugment):
        raise ValueError(
            "`augment` of a GAN must be a keras_gen.augmentations.DiffAugment or None. Received: "
            f"{augment!r}."
        )
    if len(data_shape) != 3:
        raise ValueError(
            "`augment` must be None unless the data are images (height, width, channels). "
            f"Received: {augment!r} for data of shape {data_shape}. Omit `augment`."
        )


def _common_num_classes(
    generator: keras.Model, discriminator: keras.Model, prior: Prior
) -> int | None:
    """Return the number of classes, or None if neither the networks nor the prior use labels.

    Raises:
        ValueError: If the discriminator uses labels, but the generator and the prior do not. If the
            generator or the prior uses labels, but the discriminator does not. Also if two numbers
            of classes are different.
    """
    of_discriminator = num_classes_of(discriminator)
    generating = common_num_classes(generator=num_classes_of(generator), prior=prior.num_classes)
    if (generating is None) != (of_discriminator is None):
        raise ValueError(
            "If the discriminator uses labels, the generator or the prior must use labels, and "
            "vice versa. Received numbers of classes: "
            f"generator {num_classes_of(generator)}, prior {prior.num_classes}, "
            f"discriminator {of_discriminator}."
        )
    return common_num_classes(generator=generating, discriminator=of_discriminator)
