"""
Anomaly scores
==============

What a model was not trained on scores higher than what it was: by the reconstruction error of an autoencoder, or by the
negative ELBO of a VAE, in nats. Here the normal data are 0, 1, 4, 5, 6, 7 and 9, and the strangers are 2, 3 and 8.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import RocCurveDisplay

from keras_gen import VAE, RegularizedAutoencoder, data, distributions, networks

image, strangers = (28, 28, 1), (2, 3, 8)


def arrays(split):
    return (np.concatenate(parts) for parts in zip(*split.as_numpy_iterator(), strict=True))


train, test = data.load("mnist_mini", batch_size=128, labels=True)
(x, labels), (x_test, labels_test) = arrays(train), arrays(test)
normal, strange = x[~np.isin(labels, strangers)], np.isin(labels_test, strangers)
held_out, x_train = normal[::10], np.delete(normal, slice(None, None, 10), axis=0)

# %%
# Two models. The autoencoder's threshold is the score that 95 % of normal images stay below, images that it was not trained
# on.

autoencoder = RegularizedAutoencoder(
    encoder=networks.mlp(image, (32,), kernel_regularizer=keras.regularizers.L2(1e-6)),
    decoder=networks.mlp((32,), image, output_activation="sigmoid"),
    seed=0,
)
autoencoder.compile("adam", loss="mse")
autoencoder.fit(x_train, epochs=20, batch_size=128, verbose=0)
print("threshold:", autoencoder.calibrate(held_out, quantile=0.95))

posterior, likelihood = distributions.DiagonalNormal(16), distributions.Bernoulli(image)
vae = VAE(
    encoder=networks.mlp(image, (posterior.parameter_size,)),
    decoder=networks.mlp((16,), likelihood.parameter_shape),
    posterior=posterior,
    likelihood=likelihood,
    seed=0,
)
vae.compile("adam")
vae.fit(x_train, epochs=20, batch_size=128, verbose=0)

# %%
# How well each score tells strangers from normal test images, at every threshold.

scores = {
    "autoencoder": np.asarray(autoencoder.score(x_test)),
    "VAE": np.asarray(vae.score(x_test)),
}
axes = plt.gca()
for name, score in scores.items():
    RocCurveDisplay.from_predictions(strange, score, name=name, ax=axes)
plt.show()

caught = np.asarray(autoencoder.is_anomaly(x_test))
print(
    f"strangers caught: {caught[strange].mean():.1%}, normal images refused: {caught[~strange].mean():.1%}"
)

# %%
# The test images that the autoencoder finds strangest, above, are strangers. Those it finds least strange, below, are ones, which
# any reconstruction finds easy.

order = np.argsort(scores["autoencoder"])
rows = np.concatenate([order[::-1][:12], order[:12]])
plt.figure(figsize=(8, 1.5))
plt.imshow(
    np.block([[x_test[i, ..., 0] for i in rows[:12]], [x_test[i, ..., 0] for i in rows[12:]]]),
    cmap="gray",
)
plt.axis("off")
plt.show()
