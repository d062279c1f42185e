"""
The latent space of digits
==========================

A VAE with two latents puts every digit on a plane that can be looked at.
"""

import matplotlib.pyplot as plt
import numpy as np

from keras_gen import VAE, data, distributions, evaluation, networks

image = (28, 28, 1)
train, test = data.load("mnist_mini", batch_size=128)
posterior, likelihood = distributions.DiagonalNormal(2), distributions.Bernoulli(image)
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
# The logs have the bound and its two parts, all in nats.

plt.plot(history["elbo"], label="training")
plt.plot(history["val_elbo"], label="test")
plt.xlabel("epoch")
plt.ylabel("ELBO, nats")
plt.legend()
plt.show()

# %%
# The codes of the test images: the mean of q(z | x), coloured by the label that the VAE has never seen. Digits that look alike
# lie side by side.

_, labelled = data.load("mnist_mini", batch_size=128, labels=True)
x, labels = (np.concatenate(parts) for parts in zip(*labelled.as_numpy_iterator(), strict=True))
codes = evaluation.codes(vae, x)
plt.figure(figsize=(6, 5))
plt.scatter(*codes.T, c=labels, cmap="tab10", s=6)
plt.colorbar(label="digit")
plt.xlabel("first latent")
plt.ylabel("second latent")
plt.show()

# %%
# What the decoder makes of each place of that plane.

ticks = np.linspace(2.5, -2.5, 15)
places = np.array([[first, second] for second in ticks for first in -ticks], np.float32)
pictures = np.asarray(vae.decode(places)).reshape(15, 15, 28, 28)
plt.figure(figsize=(6, 6))
plt.imshow(np.block([list(row) for row in pictures]), cmap="gray", extent=(-2.5, 2.5, -2.5, 2.5))
plt.xlabel("first latent")
plt.ylabel("second latent")
plt.show()

# %%
# Are two latents enough? Each is used to the full here; with ten, the same networks have a better bound (see ``keras-gen train
# vae``).

print(evaluation.latent_report(vae, x))
