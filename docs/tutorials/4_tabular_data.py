"""
Tabular data
============

The Wisconsin breast cancer table describes 569 tumours by thirty measurements of their cell nuclei.
212 tumours are malignant and 357 are benign. The table comes with scikit-learn. This tutorial
trains an autoencoder and a variational autoencoder (VAE) on it. Neither model sees a diagnosis.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from keras_gen import VAE, RegularizedAutoencoder, distributions, evaluation, networks

table = load_breast_cancer()
x, x_test, y, y_test = train_test_split(
    table.data, table.target, test_size=0.3, random_state=0, stratify=table.target
)
scaler = StandardScaler().fit(x)
x, x_test = (scaler.transform(part).astype("float32") for part in (x, x_test))
columns = x.shape[1:]

# %%
# Train an autoencoder with two latents and squared error. Compare it with principal component
# analysis (PCA), which is the best linear autoencoder.

autoencoder = RegularizedAutoencoder(
    encoder=networks.mlp(
        columns, (2,), hidden=(64,), kernel_regularizer=keras.regularizers.L2(1e-4)
    ),
    decoder=networks.mlp(
        (2,), columns, hidden=(64,), kernel_regularizer=keras.regularizers.L2(1e-4)
    ),
    seed=0,
)
autoencoder.compile(keras.optimizers.Adam(3e-3), loss="mse")
autoencoder.fit(x, epochs=150, batch_size=32, verbose=0)

pca = PCA(2).fit(x)
linear = np.mean((x_test - pca.inverse_transform(pca.transform(x_test))) ** 2)
print(f"squared error per value of the test table, PCA: {linear:.3f}")
print(f"squared error per value, autoencoder: {np.mean(autoencoder.score(x_test)):.3f}")

# %%
# Train a VAE with eight latents and a normal likelihood. With ``scale="optimal"``, the variance
# of the likelihood is the mean squared error. ``latent_report`` says which latents the VAE uses.

posterior = distributions.DiagonalNormal(8)
likelihood = distributions.Normal(columns, scale="optimal")
vae = VAE(
    encoder=networks.mlp(columns, (posterior.parameter_size,), hidden=(64,)),
    decoder=networks.mlp((8,), likelihood.parameter_shape, hidden=(64,)),
    posterior=posterior,
    likelihood=likelihood,
    seed=0,
)
vae.compile(keras.optimizers.Adam(1e-3))
vae.fit(x, validation_data=x_test, epochs=150, batch_size=32, verbose=0)
print(evaluation.latent_report(vae, x_test))
print(evaluation.log_likelihood(vae, x_test, num_samples=500, verbose=0))

# %%
# Do the latents contain the diagnosis? Train one linear classifier on the eight latents and one
# on all thirty columns, and compare their accuracy.

inputs = {
    "thirty columns": (x, x_test),
    "eight latents": (evaluation.latents(vae, x), evaluation.latents(vae, x_test)),
}
for name, (values, values_test) in inputs.items():
    classifier = LogisticRegression(max_iter=1000).fit(values, y)
    print(f"accuracy on the test table from {name}: {classifier.score(values_test, y_test):.1%}")

# %%
# Generate a synthetic table, and compare the correlations between its columns with those of the
# real table. ``generate`` returns the mean of p(x | z). Add the noise of the likelihood to get
# samples.

samples = np.asarray(vae.generate(1000, seed=0))
scale = np.sqrt(vae.likelihood.variance.numpy())
noise = scale * np.random.default_rng(0).normal(size=samples.shape)
figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for axis, title, values in zip(axes, ("real", "generated"), (x, samples + noise), strict=True):
    image = axis.imshow(np.corrcoef(values.T), vmin=-1, vmax=1, cmap="RdBu")
    axis.set_title(title)
figure.colorbar(image, ax=axes, label="correlation of two columns")
plt.show()
