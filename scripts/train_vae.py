"""Train a variational autoencoder (VAE) on images of digits, and look at what it learned.

    python scripts/train_vae.py
    python scripts/train_vae.py --data mnist --data-dir ~/tensorflow_datasets --epochs 30

The script is an example to copy from. It takes about a minute on two cores with the digits that
keras_gen contains. `keras-gen train vae` trains the same model with more options.
"""

import argparse
import pathlib

import keras

from keras_gen import VAE, data, distributions, evaluation, networks
from keras_gen.evaluation.figures import save_grid

IMAGE = (28, 28, 1)


def main():
    """Train, evaluate, save and export a VAE."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist_mini", help="grey images of 28×28 pixels")
    parser.add_argument("--data-dir", help="folder of all TFDS data sets")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training images")
    parser.add_argument("--latents", type=int, default=10, help="number of latent dimensions")
    parser.add_argument("--samples", type=int, default=100, help="samples per image for log p(x)")
    parser.add_argument("--output", type=pathlib.Path, default="vae", help="folder of the results")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    # 1. Data. With `binarize=True`, each pixel is sampled as 0 or 1, with its grey value as the
    # probability of 1. With grey pixels, the Bernoulli likelihood would be a loss, but the estimate
    # of log p(x) would not be valid.
    train, test = data.load(
        arguments.data, batch_size=128, data_dir=arguments.data_dir, binarize=True
    )

    # 2. Distributions. The posterior q(z | x) is a normal distribution with independent latents.
    # The likelihood p(x | z) has one Bernoulli distribution per pixel. The prior p(z) is N(0, I).
    posterior = distributions.DiagonalNormal(arguments.latents)
    likelihood = distributions.Bernoulli(IMAGE)

    # 3. Networks. The encoder outputs the parameters of the posterior, and the decoder those of
    # the likelihood. Any Keras model with these shapes can replace them.
    vae = VAE(
        encoder=networks.conv_encoder(IMAGE, (posterior.parameter_size,)),
        decoder=networks.conv_decoder((arguments.latents,), likelihood.parameter_shape),
        posterior=posterior,
        likelihood=likelihood,
        seed=0,
    )

    # 4. Training. By default, a VAE maximizes the evidence lower bound (ELBO) of log p(x). The
    # learning rate falls to zero during the training.
    steps = arguments.epochs * len(train)
    vae.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)))
    vae.fit(train, validation_data=test, epochs=arguments.epochs, verbose=2)

    # 5. Evaluation. The estimate of log p(x) is closer to the true value than the ELBO.
    losses = vae.evaluate(test, verbose=0, return_dict=True)
    estimate = evaluation.log_likelihood(vae, test, num_samples=arguments.samples)
    print(f"ELBO: {losses['elbo']:.2f} nats per image, higher is better")
    print(f"log p(x): {estimate.mean:.2f} nats per image, higher is better")

    # 6. Figures: images that the VAE generates, and test images above their reconstructions.
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_grid(arguments.output / "samples.png", vae.generate(64, seed=0), columns=8)
    images, _ = data.as_arrays(test, count=8)
    both = keras.ops.concatenate([images, vae.reconstruct(images)])
    save_grid(arguments.output / "reconstructions.png", both, columns=8)

    # 7. Deployment. The .keras file is for Python, the SavedModel for TensorFlow Serving.
    vae.save(arguments.output / "vae.keras")
    vae.export(arguments.output / "1")
    print(f"The figures and the model are in {arguments.output}.")


if __name__ == "__main__":
    main()
