"""Training by hand, with Keras layers, written-out losses and a loop over a `tf.function`.

`products` does only the matrix multiplications and convolutions of a step.
"""

import math

import keras
import tensorflow as tf
from keras import layers
from steps_keras_gen import IMAGE, TABLE_CATEGORIES, TABLE_NUMBERS, batches, size

from keras_gen import networks as residual

RAW_SCALE_OF_ONE = math.log(math.e - 1)  # softplus of it is 1
CODEBOOK = {"vq_vae": 128 * 16}  # parameters outside of the networks

# === Networks: encoders and decoders, or generator and discriminator ===


def mlp_vae():
    """Return an encoder of 784-200-200-50 units and a decoder of 50-200-200-784."""
    hidden = [layers.Dense(200, "tanh") for _ in range(4)]
    encoder = [keras.Input(IMAGE), layers.Flatten(), *hidden[:2], layers.Dense(100)]
    decoder = [keras.Input((50,)), *hidden[2:], layers.Dense(784), layers.Reshape(IMAGE)]
    return keras.Sequential(encoder), keras.Sequential(decoder)


def conv_vae():
    """Return networks of two convolutions with stride 2 each, for 10 latents."""
    halvings = [layers.Conv2D(channels, 3, 2, "same", activation="relu") for channels in (32, 64)]
    doublings = [layers.Conv2DTranspose(32, 3, 2, "same", activation="relu") for _ in range(2)]
    encoder = keras.Sequential([keras.Input(IMAGE), *halvings, layers.Flatten(), layers.Dense(20)])
    grid = [keras.Input((10,)), layers.Dense(7 * 7 * 64, "relu"), layers.Reshape((7, 7, 64))]
    return encoder, keras.Sequential([*grid, *doublings, layers.Conv2D(1, 3, padding="same")])


def dcgan():
    """Return a generator with batch normalization, and a discriminator without, for 64 latents."""
    normalized = [[layers.BatchNormalization(momentum=0.9), layers.ReLU()] for _ in range(2)]
    grid = [
        keras.Input((64,)),
        layers.Dense(7 * 7 * 64, use_bias=False),
        layers.Reshape((7, 7, 64)),
    ]
    first = layers.Conv2DTranspose(32, 4, 2, "same", use_bias=False)
    last = layers.Conv2DTranspose(1, 4, 2, "same", activation="sigmoid")
    generator = keras.Sequential([*grid, *normalized[0], first, *normalized[1], last])
    discriminator = keras.Sequential([keras.Input(IMAGE)])
    for channels in (64, 128):
        discriminator.add(layers.Conv2D(channels, 4, 2, "same"))
        discriminator.add(layers.LeakyReLU(0.2))
    discriminator.add(layers.Flatten())
    discriminator.add(layers.Dense(1))
    return generator, discriminator


def residual_vae():
    """Return the residual networks of keras_gen, for 10 latents."""
    return residual.residual_encoder(IMAGE, (20,)), residual.residual_decoder((10,), IMAGE)


def hierarchical_vae():
    """Return two encoders and two decoders for layers of 100 and 50 latents."""

    def mlp(inputs, width, outputs):
        hidden = [layers.Dense(width, "tanh") for _ in range(2)]
        return keras.Sequential([keras.Input(inputs), layers.Flatten(), *hidden, *outputs])

    encoders = mlp(IMAGE, 200, [layers.Dense(200)]), mlp((100,), 100, [layers.Dense(100)])
    image = [layers.Dense(784), layers.Reshape(IMAGE)]
    return *encoders, mlp((100,), 200, image), mlp((50,), 100, [layers.Dense(200)])


def vq_vae():
    """Return networks of two convolutions with stride 2 each, for a grid of 7×7 vectors."""
    halvings = [layers.Conv2D(channels, 3, 2, "same", activation="relu") for channels in (32, 64)]
    doublings = [
        layers.Conv2DTranspose(channels, 3, 2, "same", activation="relu") for channels in (64, 32)
    ]
    encoder = keras.Sequential([keras.Input(IMAGE), *halvings, layers.Conv2D(16, 1)])
    grid = keras.Input((7, 7, 16))
    return encoder, keras.Sequential([grid, *doublings, layers.Conv2D(1, 3, padding="same")])


def table_vae():
    """Return an encoder of features-128-128-20 units and a decoder of 10-128-128-parameters."""
    outputs = TABLE_NUMBERS + sum(TABLE_CATEGORIES)
    hidden = [layers.Dense(128, "relu") for _ in range(4)]
    mask = TABLE_NUMBERS + len(TABLE_CATEGORIES)
    encoder = [keras.Input((outputs + mask,)), *hidden[:2], layers.Dense(20)]
    decoder = [keras.Input((10,)), *hidden[2:], layers.Dense(outputs)]
    return keras.Sequential(encoder), keras.Sequential(decoder)


# === Training steps: functions of a batch that update the weights and return the loss ===


def vae_step(encoder, decoder):
    """Return a step that minimizes −E_q[log p(x | z)] + KL(q(z | x) ‖ N(0, I)) with Adam."""
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


def table_step(encoder, decoder):
    """Return a step of a VAE of rows with missing entries, which are NaN.

    The loss is −E_q[log p(x | z)] + KL(q(z | x) ‖ N(0, I)) over the observed entries. The σ of each
    column of numbers is the one that fits the batch best.
    """
    variables = encoder.trainable_variables + decoder.trainable_variables
    optimizer = _adam(variables)
    sizes = [TABLE_NUMBERS, *TABLE_CATEGORIES]

    @tf.function
    def step(x):
        observed = ~tf.math.is_nan(x)
        mask = tf.cast(observed, tf.float32)
        numbers = tf.where(observed, x, 0.0)[:, :TABLE_NUMBERS]
        codes = tf.cast(tf.where(observed, x, -1.0)[:, TABLE_NUMBERS:], tf.int32)
        one_hots = [
            tf.one_hot(codes[:, index], number) for index, number in enumerate(TABLE_CATEGORIES)
        ]
        with tf.GradientTape() as tape:
            features = tf.concat([numbers, *one_hots, mask], axis=1)
            mean, raw_scale = tf.split(encoder(features, training=True), 2, axis=1)
            scale = 1e-4 + (1 - 1e-4) * tf.math.softplus(raw_scale + RAW_SCALE_OF_ONE)
            z = mean + scale * tf.random.normal(tf.shape(mean))
            location, *logits = tf.split(decoder(z, training=True), sizes, axis=1)
            used = mask[:, :TABLE_NUMBERS]
            squared = (numbers - location) ** 2 * used
            variance = tf.reduce_sum(squared, axis=0) / tf.reduce_sum(used, axis=0)
            variance = tf.stop_gradient(tf.maximum(variance, math.exp(-12)))
            negative = 0.5 * (squared / variance + tf.math.log(2 * math.pi * variance) * used)
            loss = tf.reduce_sum(negative)
            for one_hot, of_column in zip(one_hots, logits, strict=True):
                # A one-hot vector of zeros, which stands for a missing entry, gives 0.
                loss -= tf.reduce_sum(one_hot * tf.nn.log_softmax(of_column))
            loss += tf.reduce_sum(0.5 * (mean**2 + scale**2 - 1) - tf.math.log(scale))
            loss /= tf.cast(tf.shape(x)[0], tf.float32)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step


def hierarchical_step(encoder, top_encoder, decoder, top_decoder):
    """Return a step that maximizes the ELBO of a VAE with two layers of latents with Adam."""
    networks = (encoder, top_encoder, decoder, top_decoder)
    variables = [variable for network in networks for variable in network.trainable_variables]
    optimizer = _adam(variables)

    def normal(parameters):
        mean, raw_scale = tf.split(parameters, 2, axis=1)
        return mean, 1e-4 + (1 - 1e-4) * tf.math.softplus(raw_scale + RAW_SCALE_OF_ONE)

    def sampled(mean, scale):
        return mean + scale * tf.random.normal(tf.shape(mean))

    def divergence(mean, scale, prior_mean, prior_scale):
        ratio = scale / prior_scale
        squared = ratio**2 + ((mean - prior_mean) / prior_scale) ** 2
        return tf.reduce_sum(0.5 * (squared - 1) - tf.math.log(ratio), axis=1)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            first = normal(encoder(x, training=True))
            latents = sampled(*first)
            second = normal(top_encoder(latents, training=True))
            prior = normal(top_decoder(sampled(*second), training=True))
            logits = decoder(latents, training=True)
            cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(x, logits)
            kl = divergence(*first, *prior) + divergence(*second, 0.0, 1.0)
            loss = tf.reduce_mean(tf.reduce_sum(cross_entropy, axis=(1, 2, 3)) + kl)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step


def vq_step(encoder, decoder):
    """Return a step of the VQ-VAE whose codebook of 128 vectors the optimizer trains."""
    codebook = keras.Variable(keras.random.uniform((128, 16), -1 / 128, 1 / 128))
    variables = [*encoder.trainable_variables, *decoder.trainable_variables, codebook]
    optimizer = _adam(variables)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            latents = encoder(x, training=True)
            flat = tf.reshape(latents, (-1, 16))
            vectors = tf.convert_to_tensor(codebook)
            distances = tf.reduce_sum(vectors**2, axis=1) - 2 * tf.matmul(
                flat, vectors, transpose_b=True
            )
            one_hot = tf.one_hot(tf.argmin(distances, axis=1), 128)
            quantized = tf.reshape(one_hot @ vectors, tf.shape(latents))
            fixed = tf.stop_gradient(quantized)
            squared = (tf.stop_gradient(latents) - quantized) ** 2 + 0.25 * (latents - fixed) ** 2
            logits = decoder(fixed + latents - tf.stop_gradient(latents), training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(x, logits)
            loss = tf.reduce_sum(losses) + tf.reduce_sum(squared)
            loss /= tf.cast(tf.shape(x)[0], tf.float32)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step


def gan_step(generator, discriminator):
    """Return a step that updates the discriminator, then the generator, with one Adam each.

    Its loss is the sum of both losses.
    """
    generator_variables = generator.trainable_variables
    discriminator_variables = discriminator.trainable_variables
    generator_optimizer = _adam(generator_variables, 1e-3, 0.5)
    discriminator_optimizer = _adam(discriminator_variables, 4e-4, 0.5)

    def generated(x):
        return generator(tf.random.normal((tf.shape(x)[0], 64)), training=True)

    @tf.function
    def step(x):
        fake = generated(x)
        with tf.GradientTape() as tape:
            real_logits = discriminator(x, training=True)
            fake_logits = discriminator(fake, training=True)
            discriminator_loss = tf.reduce_mean(
                tf.math.softplus(-real_logits) + tf.math.softplus(fake_logits)
            )
        gradients = tape.gradient(discriminator_loss, discriminator_variables)
        discriminator_optimizer.apply(gradients, discriminator_variables)
        with tf.GradientTape() as tape:
            fake_logits = discriminator(generated(x), training=True)
            generator_loss = tf.reduce_mean(tf.math.softplus(-fake_logits))
        gradients = tape.gradient(generator_loss, generator_variables)
        generator_optimizer.apply(gradients, generator_variables)
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
    "residual_vae": (residual_vae, vae_step),
    "hierarchical_vae": (hierarchical_vae, hierarchical_step),
    "vq_vae": (vq_vae, vq_step),
    "table_vae": (table_vae, table_step),
}

# === Competitors ===


def loop(model, batch_size, in_graph=False, source="mnist_mini"):
    """Return a function that trains for a number of steps on the batches of `fit`.

    With `in_graph`, the loop over the batches is part of the graph; otherwise it is in Python.
    """
    keras.utils.set_random_seed(0)
    networks, make_step = MODELS[model]
    pair = networks()
    step = make_step(*pair)
    first_batches = batches(batch_size, source)
    parameters = sum(size(network.trainable_variables) for network in pair)
    parameters += CODEBOOK.get(model, 0)

    @tf.function
    def epoch(dataset):
        total = 0.0
        steps = 0.0
        for x in dataset:
            total += step(x)
            steps += 1
        return total / steps

    def train(steps):
        dataset = first_batches(steps)
        loss = epoch(dataset) if in_graph else tf.reduce_mean([step(x) for x in dataset])
        return {"loss": float(loss), "parameters": parameters}

    return train


def products(model, batch_size):
    """Return a function that does only the matrix multiplications or convolutions of a step.

    It does those of the forward and of the backward pass, which is a lower bound of the time.
    """
    make_networks, _ = MODELS[model]
    pair = [
        keras.models.clone_model(network, clone_function=_product) for network in make_networks()
    ]
    gradients = PRODUCTS.get(model, vae_products)

    @tf.function
    def run(steps):
        x = tf.random.normal((batch_size, *IMAGE))
        latents = tf.random.normal((2, batch_size, 64))
        total = 0.0
        for _ in tf.range(steps):
            first_elements = [tf.reshape(each, [-1])[0] for each in gradients(*pair, x, latents)]
            total += tf.add_n(first_elements)
            x += 1e-30 * total  # so that each step depends on all of the previous one
        return total

    return lambda steps: run(tf.constant(steps)) and None


def vae_products(encoder, decoder, x, _):
    """Return the gradients of all kernels of a VAE without biases and activations."""
    kernels = encoder.trainable_variables + decoder.trainable_variables
    with tf.GradientTape() as tape:
        outputs = decoder(encoder(x)[:, : decoder.input_shape[1]])
    return tape.gradient(outputs, kernels, output_gradients=outputs)


def hierarchical_products(encoder, top_encoder, decoder, top_decoder, x, _):
    """Return the gradients of all kernels of a VAE with two layers of latents."""
    networks = (encoder, top_encoder, decoder, top_decoder)
    kernels = [variable for network in networks for variable in network.trainable_variables]
    with tf.GradientTape() as tape:
        latents = encoder(x)[:, :100]
        top = top_decoder(top_encoder(latents)[:, :50])
        outputs = [decoder(latents), top]
    return tape.gradient(outputs, kernels, output_gradients=outputs)


def gan_products(generator, discriminator, x, latents):
    """Return the gradients of all kernels of a GAN, which has only its kernels."""
    fake = generator(latents[0])
    with tf.GradientTape() as tape:
        logits = [discriminator(x), discriminator(fake)]
    discriminator_gradients = tape.gradient(
        logits, discriminator.trainable_variables, output_gradients=logits
    )
    with tf.GradientTape() as tape:
        logits = discriminator(generator(latents[1]))
    generator_gradients = tape.gradient(
        logits, generator.trainable_variables, output_gradients=logits
    )
    return discriminator_gradients + generator_gradients


PRODUCTS = {"dcgan": gan_products, "hierarchical_vae": hierarchical_products}


def _product(layer):
    """Return a copy of a layer that only multiplies or reshapes, and otherwise the identity."""
    config = layer.get_config()
    if hasattr(layer, "kernel"):
        return type(layer).from_config({**config, "activation": "linear", "use_bias": False})
    if isinstance(layer, (layers.Flatten, layers.Reshape)):
        return type(layer).from_config(config)
    return layers.Identity()
