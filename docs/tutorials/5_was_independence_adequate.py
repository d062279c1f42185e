"""
Was independence adequate?
==========================

A VAE assumes that, given an image, its latents are independent. What does that cost? The audit trains copies with a diagonal
and with a full covariance from the same weights, and optimizes the posteriors of single images by themselves, to say how much
of the gap between log p(x) and the ELBO is due to independence.
"""

import matplotlib.pyplot as plt
import numpy as np

from keras_gen import VAE, data, distributions, evaluation, networks

image = (28, 28, 1)
train, test = data.load("mnist_mini", batch_size=128, binarize=True)
posterior, likelihood = distributions.DiagonalNormal(10), distributions.Bernoulli(image)
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
# Three pairs of copies, ten more epochs each. The verdict is in words; all intervals are at 95 %.

x_test = np.concatenate(list(test.as_numpy_iterator()))
audit = evaluation.audit_independence(
    vae,
    lambda: data.load("mnist_mini", batch_size=128, binarize=True)[
        0
    ],  # made anew for each, so that all see the same order
    x_test,
    epochs=10,
    seeds=(0, 1, 2),
    images=50,
    num_samples=100,
    refinement_steps=200,
)
print(audit)

# %%
# The correlations that the full posteriors found, their root mean square over test images: which latents are entangled.

plt.imshow(audit.correlations, cmap="magma", vmin=0)
plt.xlabel("latent")
plt.ylabel("latent")
plt.colorbar(label="root mean square correlation")
plt.show()
