"""
The latent space of digits
==========================

A variational autoencoder (VAE) with two latents maps every image of a digit to a point of a plane.
This tutorial plots the plane. The data are `mnist_mini`, the digits that the package contains.
"""

import matplotlib.pyplot as plt
import numpy as np

from keras_gen import VAE, data, distributions, evaluation, networks

image = (28, 28, 1)
train, test = data.load("mnist_mini", batch_size=128)
posterior = distributions.DiagonalNormal(2)
likelihood = distributions.Bernoulli(image)
vae = VAE(
    encoder=networks.mlp(image, (posterior.parameter_size,), hidden=(200, 200)),
    decoder=networks.mlp((2,), likelihood.parameter_shape, hidden=(200, 200)),
    posterior=posterior,
    likelihood=likelihood,
    seed=0,
)
vae.compile("adam")
history = vae.fit(train, validation_data=test, epochs=40, verbose=0).history

# %%
# The ELBO (evidence lower bound) is a lower bound of log p(x), in nats. A higher ELBO is better.
# If the curve of the test data decreases while that of the training data still increases, the VAE
# overfits.

plt.plot(history["elbo"], label="training")
plt.plot(history["val_elbo"], label="test")
plt.xlabel("epoch")
plt.ylabel("ELBO, nats")
plt.legend()
plt.show()

# %%
# Plot the latents of the test images, which are the means of the posterior q(z | x). The colours
# are the labels. The VAE has not seen the labels, but images of the same digit are close to each
# other.

_, labelled = data.load("mnist_mini", batch_size=128, labels=True)
x, labels = (np.concatenate(parts) for parts in zip(*labelled.as_numpy_iterator(), strict=True))
latents = evaluation.latents(vae, x)
plt.figure(figsize=(6, 5))
plt.scatter(latents[:, 0], latents[:, 1], c=labels, cmap="tab10", s=6)
plt.colorbar(label="digit")
plt.xlabel("first latent")
plt.ylabel("second latent")
plt.show()

# %%
# Decode a grid of points of this plane. Each image is at the position of its point.

ticks = np.linspace(2.5, -2.5, 15)
points = np.array([[first, second] for second in ticks for first in -ticks], np.float32)
images = np.asarray(vae.decode(points)).reshape(15, 15, 28, 28)
plt.figure(figsize=(6, 6))
plt.imshow(np.block([list(row) for row in images]), cmap="gray", extent=(-2.5, 2.5, -2.5, 2.5))
plt.xlabel("first latent")
plt.ylabel("second latent")
plt.show()

# %%
# The report says which latents the VAE uses. It also lists the KL divergence of each latent from
# the prior, in nats. A latent with a larger KL divergence says more about an image.

print(evaluation.latent_report(vae, x))
