"""
Was independence adequate?
==========================

A variational autoencoder (VAE) with a diagonal posterior assumes that its latents are independent,
given an image. This tutorial measures what the assumption costs, with an audit of two parts. First,
two copies of the VAE continue the training from the same weights, one with a diagonal and one with
a full covariance. Second, the posteriors of single images are optimized one by one. The result says
how much of the gap between log p(x) and the ELBO, its lower bound, comes from independence.
"""

import matplotlib.pyplot as plt
import numpy as np

from keras_gen import VAE, data, distributions, evaluation, networks

image = (28, 28, 1)
train, test = data.load("mnist_mini", batch_size=128, binarize=True)
posterior = distributions.DiagonalNormal(10)
likelihood = distributions.Bernoulli(image)
vae = VAE(
    encoder=networks.mlp(image, (posterior.parameter_size,), hidden=(200, 200)),
    decoder=networks.mlp((10,), likelihood.parameter_shape, hidden=(200, 200)),
    posterior=posterior,
    likelihood=likelihood,
    seed=0,
)
vae.compile("adam")
vae.fit(train, validation_data=test, epochs=30, verbose=0)

# %%
# Train three pairs of copies for ten more epochs, one pair per seed. The training data come from
# a function, so that both copies of a pair see them in the same order. ``print`` shows the result
# with 95 % intervals.


def load_training_data():
    return data.load("mnist_mini", batch_size=128, binarize=True)[0]


x_test = np.concatenate(list(test.as_numpy_iterator()))
audit = evaluation.audit_independence(
    vae,
    load_training_data,
    x_test,
    epochs=10,
    seeds=(0, 1, 2),
    images=50,
    num_samples=100,
    refinement_steps=200,
)
print(audit)

# %%
# Plot the correlations between the latents in the full-covariance posteriors. Each entry is the
# root mean square over the test images.

plt.imshow(audit.correlations, cmap="magma", vmin=0)
plt.xlabel("latent")
plt.ylabel("latent")
plt.colorbar(label="root mean square correlation")
plt.show()
