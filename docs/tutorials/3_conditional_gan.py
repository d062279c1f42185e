"""
A conditional GAN
=================

A conditional GAN generates the digit that you ask for. The label is an input of the generator and
of the discriminator. This tutorial trains such a GAN, reads its logs, and measures the quality of
its samples.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

from keras_gen import GAN, data, evaluation, losses, networks

image = (28, 28, 1)
train, test = data.load("mnist_mini", batch_size=64, labels=True)
gan = GAN(
    generator=networks.dcgan_generator(64, image, num_classes=10),
    discriminator=networks.dcgan_discriminator(image, num_classes=10),
    seed=0,
)
gan.compile(
    generator_optimizer=keras.optimizers.Adam(1e-3, 0.5),
    discriminator_optimizer=keras.optimizers.Adam(4e-4, 0.5),
    loss=losses.NonSaturating(),
    ema_momentum=0.999,
)
history = gan.fit(train, epochs=30, verbose=0).history

# %%
# The two losses of a GAN do not decrease steadily, because generator and discriminator improve
# together. Look at other logs instead. Both accuracies of the discriminator should be above 0.5,
# but below 1. The fraction of near-duplicates, which are almost equal images, should be small.

plt.plot(history["real_accuracy"], label="real images classified as real")
plt.plot(history["fake_accuracy"], label="generated images classified as generated")
plt.plot(history["duplicates"], label="share of near-duplicates")
plt.xlabel("epoch")
plt.legend()
plt.show()

# %%
# Generate ten images of each digit. Each column shows one digit. The images come from the EMA
# generator, whose weights are an exponential moving average of the generator's weights. The
# argument ``ema_momentum`` of ``compile`` enables it.

digits = np.asarray(gan.generate(100, seed=1, condition=np.tile(np.arange(10), 10))).reshape(
    10, 10, 28, 28
)
plt.figure(figsize=(6, 6))
plt.imshow(np.block([list(row) for row in digits]), cmap="gray")
plt.axis("off")
plt.show()

# %%
# Measure the quality of the samples. The Fréchet distance (FID) compares the features of
# generated and of real images, and lower is better. The features come from a classifier of digits
# that the package contains. The FID between two halves of the real images is printed for
# comparison.

real = np.concatenate([x for x, _ in test.as_numpy_iterator()])
print(evaluation.sample_quality(gan, real))
