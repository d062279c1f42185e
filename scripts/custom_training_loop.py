"""Train a VAE in a training loop of your own.

    python scripts/custom_training_loop.py

Use `fit` if you can, because it checks the data and can resume a stopped training. Write a loop if
you need steps in another order, or a loss that depends on several batches. This loop maximizes the
ELBO, clips the gradients, and raises the weight of the KL divergence slowly.
"""

import argparse
import pathlib

import keras
import tensorflow as tf

from keras_gen import VAE, data, distributions, networks
from keras_gen.evaluation.figures import save_grid

IMAGE = (28, 28, 1)
LATENTS = 8


def main():
    """Train, evaluate and save a VAE."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training images")
    parser.add_argument("--warm-up", type=int, default=200, help="steps until the KL weight is 1")
    parser.add_argument("--output", type=pathlib.Path, default="custom_training_loop")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    train, test = data.load("mnist_mini", batch_size=128, binarize=True)
    posterior = distributions.DiagonalNormal(LATENTS)
    likelihood = distributions.Bernoulli(IMAGE)
    prior = distributions.StandardNormal(LATENTS)
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(256,))
    decoder = networks.mlp((LATENTS,), likelihood.parameter_shape, hidden=(256,))
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=100.0)
    variables = encoder.trainable_variables + decoder.trainable_variables
    optimizer.build(variables)

    # `tf.function` compiles the step to a graph, which is several times faster than eager mode.
    # The number of the step is an argument, because the seed of the noise and the weight of the KL
    # divergence depend on it.
    @tf.function
    def train_step(x, step):
        kl_weight = tf.minimum(tf.cast(step, tf.float32) / arguments.warm_up, 1.0)
        with tf.GradientTape() as tape:
            q = posterior(encoder(x, training=True))
            p = likelihood(decoder(q.sample(seed=(0, step)), training=True))
            # The divergence of two normal distributions has a closed form.
            kl = distributions.kl_divergence(q, prior.distribution()).value
            loss = tf.reduce_mean(kl_weight * kl - p.log_prob(x))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    step = tf.constant(0)
    for epoch in range(arguments.epochs):
        for x in train:
            loss = train_step(x, step)
            step += 1
        if not tf.math.is_finite(loss):
            raise ValueError(f"Expected a finite loss. Received: {loss:.4g} in epoch {epoch + 1}.")
        print(f"epoch {epoch + 1}: loss of the last batch {loss:.2f} nats per image")

    # A `VAE` with the trained networks has the methods to evaluate, generate, save and export.
    vae = VAE(encoder, decoder, posterior, likelihood, prior, seed=0)
    vae.compile()
    elbo = vae.evaluate(test, verbose=0, return_dict=True)["elbo"]
    print(f"ELBO of the test images: {elbo:.2f} nats per image, higher is better")
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_grid(arguments.output / "samples.png", vae.generate(64, seed=0), columns=8)
    vae.save(arguments.output / "vae.keras")
    print(f"The figure and the model are in {arguments.output}.")


if __name__ == "__main__":
    main()
