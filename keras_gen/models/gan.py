"""The generative adversarial network (MATH 4)."""

import keras
import tensorflow as tf

from keras_gen.distributions import StandardNormal
from keras_gen.losses import AdversarialLoss, NonSaturating
from keras_gen.models.base import GenerativeModel
from keras_gen.models.checks import DataCheck, check_distribution, check_logits, check_network, check_prior, output_range


class PlayersOptimizer(keras.optimizers.MultiOptimizer):
    """Two optimizers behind one face: Keras and its callbacks see one, each `apply` is one player's move.

    `keras.optimizers.MultiOptimizer` wants the gradients of all variables at once; players move in turn. `iterations` counts
    training steps and is advanced by the model.

    Args:
        generator_optimizer: Keras optimizer of the generator.
        discriminator_optimizer: Keras optimizer of the discriminator.
        discriminator: Whose variables go to the second.
    """

    def __init__(self, generator_optimizer, discriminator_optimizer, discriminator):
        of_discriminator = {id(variable) for variable in discriminator.variables}

        def owner(variable):
            return discriminator_optimizer if id(variable) in of_discriminator else generator_optimizer

        super().__init__(owner)
        self.owner = owner

    def apply(self, grads, trainable_variables):
        """Apply one player's gradients with that player's optimizer."""
        self.owner(trainable_variables[0]).apply(grads, trainable_variables)

    def get_config(self):
        """Both optimizers, under the names of `GAN.compile`, which makes this object anew when a model is loaded."""
        players = map(keras.saving.serialize_keras_object, self.optimizers)
        return dict(zip(("generator_optimizer", "discriminator_optimizer"), players, strict=True))


@keras.saving.register_keras_serializable("keras_gen")
class GAN(GenerativeModel):
    """x̂ = generator(h) with h ~ p(h), and a discriminator γ = sigmoid(logit), each minimizing its own loss in turn (MATH 4).

    `gan(latents)` and `predict(latents)` are the generated data. A pair `(x, target)` in `fit` trains on the target. A prior that has
    weights learns them with the generator.

    Args:
        generator: Built Keras model from latents `[batch, prior.event_size]` to data. If it ends in a sigmoid, data outside
            [0, 1] are refused.
        discriminator: Built Keras model from data to one logit, `[batch, 1]`.
        prior: p(h), a `distributions.Prior`; `StandardNormal` of the generator's input size if None.
        seed: Seed of the model's noise.
        **kwargs: `name`, `dtype` and `trainable` of the Keras model.

    Example:

    >>> from keras_gen import networks
    >>> gan = GAN(generator=networks.dcgan_generator(8, (28, 28, 1), filters=(8, 4)),
    ...           discriminator=networks.dcgan_discriminator((28, 28, 1), filters=(4, 8)), seed=0)
    >>> gan.compile(generator_optimizer=keras.optimizers.Adam(2e-4, 0.5), discriminator_optimizer=keras.optimizers.Adam(2e-4, 0.5))
    >>> history = gan.fit(tf.random.uniform((64, 28, 28, 1)), epochs=1, verbose=0)
    >>> sorted(history.history)
    ['discriminator_loss', 'generator_loss', 'loss', 'regularization_loss']
    """

    loss_parts = ("generator_loss", "discriminator_loss", "regularization_loss")
    compile_arguments = ("loss",)

    def __init__(self, generator, discriminator, prior=None, seed=None, **kwargs):
        latent_shape, data_shape = check_network("generator", generator)
        prior = StandardNormal(latent_shape[0]) if prior is None else prior
        check_prior(prior, latent_shape[0])
        check_distribution(prior)
        check_network("discriminator", discriminator, data_shape, (1,), why=", the outputs of `generator` and one logit")
        check_logits("discriminator", discriminator)
        super().__init__(DataCheck(data_shape, *output_range(generator)), seed, **kwargs)
        self.generator = generator
        self.discriminator = discriminator
        self.prior = prior

    def compile(self, generator_optimizer="adam", discriminator_optimizer="adam", loss=None, **kwargs):
        """Configure for training as `keras.Model.compile`, with an optimizer for each player.

        Args:
            generator_optimizer: Keras optimizer of the generator, or its name.
            discriminator_optimizer: Keras optimizer of the discriminator, or its name; not the same object.
            loss: Both players' formulas, a `losses.AdversarialLoss`; `losses.NonSaturating()` if None.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, `auto_scale_loss` of `keras.Model.compile`.
        """
        if kwargs.get("optimizer") is not None:
            raise ValueError("A GAN has two players: give `generator_optimizer` and `discriminator_optimizer`, not `optimizer`.")
        loss = NonSaturating() if loss is None else loss
        generator_optimizer = keras.optimizers.get(generator_optimizer)
        discriminator_optimizer = keras.optimizers.get(discriminator_optimizer)
        if not isinstance(loss, AdversarialLoss):
            raise ValueError(f"`loss` of a GAN is a keras_gen.losses.AdversarialLoss, such as NonSaturating(). Received: {loss!r}")
        if generator_optimizer is discriminator_optimizer:
            raise ValueError("Each player needs an optimizer of its own. Received the same object twice: make two.")
        if kwargs.get("metrics") or kwargs.get("weighted_metrics"):
            raise ValueError("A GAN has no target that `metrics` could be computed from. Leave `metrics` out.")
        super().compile(PlayersOptimizer(generator_optimizer, discriminator_optimizer, self.discriminator), **kwargs)
        self.loss = loss

    def get_compile_config(self):
        """What `compile` was given; None before."""
        config = super().get_compile_config()
        if config:
            config.update(config.pop("optimizer")["config"])
        return config

    def call(self, inputs, training=False):
        """The data that latents `inputs` `[batch, n]` are turned into."""
        return self.generator(inputs, training=training)

    def train_step(self, data):
        """The discriminator's move on L_d, then the generator's on L_g."""
        _, x, sample_weight = self.unpack(data)
        seeds = self._seeds(x, training=True)

        generated = self.generator(self._latents(x, seeds[0]), training=True)
        with tf.GradientTape() as tape:
            per_example = self.loss.discriminator(self._logits(x, training=True), self._logits(generated, training=True))
            discriminator_loss = self.average(per_example, sample_weight)
            discriminator_regularization = self.regularization_loss(self.discriminator)
            loss = discriminator_loss + discriminator_regularization
        self.minimize(tape, loss, self.discriminator.trainable_variables)

        with tf.GradientTape() as tape:
            generated = self.generator(self._latents(x, seeds[1]), training=True)
            generator_loss = self.average(self.loss.generator(self._logits(generated, training=True)))
            generator_regularization = self.regularization_loss(self.generator)
            loss = generator_loss + generator_regularization
        self.minimize(tape, loss, self.generator.trainable_variables + self.prior.trainable_variables)

        self.optimizer.iterations.assign_add(1)
        return self._logs(x, generator_loss, discriminator_loss, generator_regularization + discriminator_regularization)

    def test_step(self, data):
        """Both players' losses on a batch, with noise that is the same in every evaluation."""
        _, x, sample_weight = self.unpack(data)
        latents = self._latents(x, self._seeds(x, training=False)[0])
        generated = self._logits(self.generator(latents, training=False), training=False)
        per_example = self.loss.discriminator(self._logits(x, training=False), generated)
        return self._logs(
            x,
            generator_loss=self.average(self.loss.generator(generated)),
            discriminator_loss=self.average(per_example, sample_weight),
            regularization_loss=self.regularization_loss(),
        )

    def _seeds(self, x, training):
        """Two seeds, one a player's move; they wait for the checks of `x`, so that bad data leave even moving averages alone."""
        with tf.control_dependencies([x]):
            return tf.unstack(tf.random.experimental.stateless_split(self.noise_seed(training), 2))

    def _latents(self, x, seed):
        """As many latents as `x` has examples."""
        return self.prior.distribution().sample(tf.shape(x)[0], seed=seed)

    def _logits(self, x, training):
        return tf.cast(self.discriminator(x, training=training), tf.float32)

    def _logs(self, x, generator_loss, discriminator_loss, regularization_loss):
        self.log(
            x,
            loss=generator_loss + discriminator_loss + regularization_loss,
            generator_loss=generator_loss,
            discriminator_loss=discriminator_loss,
            regularization_loss=regularization_loss,
        )
        return self.get_metrics_result()

    def decode(self, latents):
        """The data that `latents` `[batch, n]` are turned into."""
        return self.generator(latents, training=False)

    def discriminate(self, x):
        """The discriminator's γ ∈ [0, 1], `[batch]`: its probability that each example is real."""
        return tf.squeeze(tf.sigmoid(self._logits(x, training=False)), -1)

    def signatures(self):
        """The serving contract: `serving_default` (as `generate`), `decode`, `generate` and `discriminate`."""
        latents = tf.TensorSpec((None, self.prior.event_size), tf.float32, name="latents")
        return {
            "serving_default": (self.generate_rows, [self._seed_spec()]),
            "decode": (lambda latents: {"outputs": self.decode(latents)}, [latents]),
            "generate": (self.generate_rows, [self._seed_spec()]),
            "discriminate": (lambda inputs: {"probability": self.discriminate(inputs)}, [self._data_spec()]),
        }
