"""The training steps by hand: plain Keras layers, the loss written out, a loop over a `tf.function`; and their products alone."""

import math

import keras
import tensorflow as tf
from keras import layers
from steps_keras_gen import IMAGE, batches, size

RAW_SCALE_OF_ONE = math.log(math.e - 1)

# === Networks, in pairs: encoder and decoder, or generator and discriminator ===


def mlp_vae():
    """784-200-200-50 and back."""
    hidden = [layers.Dense(200, "tanh") for _ in range(4)]
    encoder = keras.Sequential(
        [keras.Input(IMAGE), layers.Flatten(), *hidden[:2], layers.Dense(100)]
    )
    return encoder, keras.Sequential(
        [keras.Input((50,)), *hidden[2:], layers.Dense(784), layers.Reshape(IMAGE)]
    )


def conv_vae():
    """Two convolutions of stride 2 and back, 10 latents."""
    halvings = [layers.Conv2D(channels, 3, 2, "same", activation="relu") for channels in (32, 64)]
    doublings = [layers.Conv2DTranspose(32, 3, 2, "same", activation="relu") for _ in range(2)]
    encoder = keras.Sequential([keras.Input(IMAGE), *halvings, layers.Flatten(), layers.Dense(20)])
    grid = [keras.Input((10,)), layers.Dense(7 * 7 * 64, "relu"), layers.Reshape((7, 7, 64))]
    return encoder, keras.Sequential([*grid, *doublings, layers.Conv2D(1, 3, padding="same")])


def dcgan():
    """A generator with batch normalization and a discriminator without, 64 latents."""
    normalized = [[layers.BatchNormalization(momentum=0.9), layers.ReLU()] for _ in range(2)]
    grid = [
        keras.Input((64,)),
        layers.Dense(7 * 7 * 64, use_bias=False),
        layers.Reshape((7, 7, 64)),
    ]
    first = layers.Conv2DTranspose(32, 4, 2, "same", use_bias=False)
    last = layers.Conv2DTranspose(1, 4, 2, "same", activation="sigmoid")
    generator = keras.Sequential([*grid, *normalized[0], first, *normalized[1], last])
    halvings = [
        layer
        for channels in (64, 128)
        for layer in (layers.Conv2D(channels, 4, 2, "same"), layers.LeakyReLU(0.2))
    ]
    return generator, keras.Sequential(
        [keras.Input(IMAGE), *halvings, layers.Flatten(), layers.Dense(1)]
    )


# === Steps: a function from a batch to the loss, after which the weights have moved ===


def vae_step(encoder, decoder):
    """−E_q[log p(x | z)] + KL(q(z | x) ‖ N(0, I)), minimized by Adam."""
    variables = encoder.trainable_variables + decoder.trainable_variables
    optimizer = _adam(variables)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            mean, raw_scale = tf.split(encoder(x, training=True), 2, axis=1)
            scale = 1e-4 + (1 - 1e-4) * tf.math.softplus(raw_scale + RAW_SCALE_OF_ONE)
            z = mean + scale * tf.random.normal(tf.shape(mean))
            cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(x, decoder(z, training=True))
            kl = tf.reduce_sum(0.5 * (mean**2 + scale**2 - 1) - tf.math.log(scale), axis=1)
            loss = tf.reduce_mean(tf.reduce_sum(cross_entropy, axis=(1, 2, 3)) + kl)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step


def gan_step(generator, discriminator):
    """The discriminator's move, then the generator's, each by its own Adam; the loss is the sum of both."""
    of_generator, of_discriminator = (
        generator.trainable_variables,
        discriminator.trainable_variables,
    )
    move_generator, move_discriminator = (
        _adam(of_generator, 1e-3, 0.5),
        _adam(of_discriminator, 4e-4, 0.5),
    )

    def generated(x):
        return generator(tf.random.normal((tf.shape(x)[0], 64)), training=True)

    @tf.function
    def step(x):
        fake = generated(x)
        with tf.GradientTape() as tape:
            real_logits, fake_logits = (
                discriminator(x, training=True),
                discriminator(fake, training=True),
            )
            discriminator_loss = tf.reduce_mean(
                tf.math.softplus(-real_logits) + tf.math.softplus(fake_logits)
            )
        move_discriminator.apply(
            tape.gradient(discriminator_loss, of_discriminator), of_discriminator
        )
        with tf.GradientTape() as tape:
            generator_loss = tf.reduce_mean(
                tf.math.softplus(-discriminator(generated(x), training=True))
            )
        move_generator.apply(tape.gradient(generator_loss, of_generator), of_generator)
        return discriminator_loss + generator_loss

    return step


def _adam(variables, learning_rate=1e-3, beta_1=0.9):
    optimizer = keras.optimizers.Adam(learning_rate, beta_1)
    optimizer.build(variables)
    return optimizer


MODELS = {
    "mlp_vae": (mlp_vae, vae_step),
    "conv_vae": (conv_vae, vae_step),
    "dcgan": (dcgan, gan_step),
}

# === What competes ===


def loop(model, batch_size, in_graph=False):
    """The training by a loop over a `tf.function`, in Python or inside the graph, on the batches that `fit` has."""
    keras.utils.set_random_seed(0)
    networks, make_step = MODELS[model]
    pair = networks()
    step, first_batches = make_step(*pair), batches(batch_size)
    parameters = sum(size(network.trainable_variables) for network in pair)

    @tf.function
    def epoch(dataset):
        total, steps = 0.0, 0.0
        for x in dataset:
            total, steps = total + step(x), steps + 1
        return total / steps

    def train(steps):
        dataset = first_batches(steps)
        loss = epoch(dataset) if in_graph else tf.reduce_mean([step(x) for x in dataset])
        return {"loss": float(loss), "parameters": parameters}

    return train


def products(model, batch_size):
    """The floor: the matrix products or convolutions of a step, forward and backward, and nothing else."""
    pair = [
        keras.models.clone_model(network, clone_function=_product) for network in MODELS[model][0]()
    ]
    gradients = gan_products if model == "dcgan" else vae_products

    @tf.function
    def run(steps):
        x, latents, total = (
            tf.random.normal((batch_size, *IMAGE)),
            tf.random.normal((2, batch_size, 64)),
            0.0,
        )
        for _ in tf.range(steps):
            total += tf.add_n(
                [tf.reshape(gradient, [-1])[0] for gradient in gradients(*pair, x, latents)]
            )
            x += 1e-30 * total  # one step after the other, and none of it can be left out
        return total

    return lambda steps: run(tf.constant(steps)) and None


def vae_products(encoder, decoder, x, _):
    """Gradients of all kernels of a VAE without biases and activations."""
    kernels = encoder.trainable_variables + decoder.trainable_variables
    with tf.GradientTape() as tape:
        outputs = decoder(encoder(x)[:, : decoder.input_shape[1]])
    return tape.gradient(outputs, kernels, output_gradients=outputs)


def gan_products(generator, discriminator, x, latents):
    """Gradients of all kernels of a GAN without biases, activations and normalization."""
    fake = generator(latents[0])
    with tf.GradientTape() as tape:
        logits = [discriminator(x), discriminator(fake)]
    of_discriminator = tape.gradient(
        logits, discriminator.trainable_variables, output_gradients=logits
    )
    with tf.GradientTape() as tape:
        logits = discriminator(generator(latents[1]))
    return of_discriminator + tape.gradient(
        logits, generator.trainable_variables, output_gradients=logits
    )


def _product(layer):
    """A layer reduced to its product; one that has none reduced to nothing, unless it changes the shape."""
    if hasattr(layer, "kernel"):
        return type(layer).from_config(
            {**layer.get_config(), "activation": "linear", "use_bias": False}
        )
    return (
        type(layer).from_config(layer.get_config())
        if isinstance(layer, (layers.Flatten, layers.Reshape))
        else layers.Identity()
    )
