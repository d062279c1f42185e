"""
Anomaly scores
==============

An anomaly score is higher for data that differ from the training data. The score of an autoencoder
is its reconstruction error. The score of a variational autoencoder (VAE) is its negative ELBO in
nats. In this tutorial the in-distribution digits are 0, 1, 4, 5, 6, 7 and 9. The anomalies are 2, 3
and 8.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import RocCurveDisplay

from keras_gen import VAE, RegularizedAutoencoder, data, distributions, networks

image = (28, 28, 1)
anomalies = (2, 3, 8)


def arrays(split):
    return [np.concatenate(parts) for parts in zip(*split.as_numpy_iterator(), strict=True)]


train, test = data.load("mnist_mini", batch_size=128, labels=True)
x, labels = arrays(train)
x_test, labels_test = arrays(test)
in_distribution = x[~np.isin(labels, anomalies)]
held_out = in_distribution[::10]
x_train = np.delete(in_distribution, slice(None, None, 10), axis=0)
anomalous = np.isin(labels_test, anomalies)

# %%
# Train both models on in-distribution images. Calibrate the threshold of the autoencoder: 95 % of
# the held-out in-distribution images have a score below the threshold.

autoencoder = RegularizedAutoencoder(
    encoder=networks.mlp(image, (32,), kernel_regularizer=keras.regularizers.L2(1e-6)),
    decoder=networks.mlp((32,), image, output_activation="sigmoid"),
    seed=0,
)
autoencoder.compile("adam", loss="mse")
autoencoder.fit(x_train, epochs=20, batch_size=128, verbose=0)
print("threshold:", autoencoder.calibrate(held_out, quantile=0.95))

posterior = distributions.DiagonalNormal(16)
likelihood = distributions.Bernoulli(image)
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
# The ROC curve shows how well a score separates anomalies from in-distribution images. Each point
# is one threshold. The horizontal axis is the fraction of false alarms, and the vertical axis is
# the fraction of anomalies that are found. The area under the curve (AUC) is 1 for a perfect
# score and 0.5 for chance.

scores = {
    "autoencoder": np.asarray(autoencoder.score(x_test)),
    "VAE": np.asarray(vae.score(x_test)),
}
axes = plt.gca()
for name, score in scores.items():
    RocCurveDisplay.from_predictions(anomalous, score, name=name, ax=axes)
plt.show()

found = np.asarray(autoencoder.is_anomaly(x_test))
print(f"anomalies found: {found[anomalous].mean():.1%}")
print(f"false alarms: {found[~anomalous].mean():.1%}")

# %%
# The upper row shows the test images with the highest scores of the autoencoder. The lower row
# shows those with the lowest scores: mostly ones, which are easy to reconstruct.

order = np.argsort(scores["autoencoder"])
rows = np.concatenate([order[::-1][:12], order[:12]])
plt.figure(figsize=(8, 1.5))
plt.imshow(
    np.block([[x_test[i, ..., 0] for i in rows[:12]], [x_test[i, ..., 0] for i in rows[12:]]]),
    cmap="gray",
)
plt.axis("off")
plt.show()
