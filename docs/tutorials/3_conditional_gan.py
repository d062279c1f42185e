"""
A conditional GAN
=================

A GAN that draws the digit it is asked for: the label is an input of both players.
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
# Neither player's loss falls for good, since each gets a better opponent. What says that the game goes on is that the
# discriminator is right more often than not, yet not always, and that generated images are no duplicates of one another.

plt.plot(history["real_accuracy"], label="real taken for real")
plt.plot(history["fake_accuracy"], label="generated taken for generated")
plt.plot(history["duplicates"], label="duplicates")
plt.xlabel("epoch")
plt.legend()
plt.show()

# %%
# Each column was asked for one digit. The averaged generator made them: the running mean of the weights, which
# ``ema_momentum`` asks for.

digits = np.asarray(gan.generate(100, seed=1, condition=np.tile(np.arange(10), 10))).reshape(
    10, 10, 28, 28
)
plt.figure(figsize=(6, 6))
plt.imshow(np.block([list(row) for row in digits]), cmap="gray")
plt.axis("off")
plt.show()

# %%
# How good are they? The distances to real images, in features of the bundled classifier of digits, with what the same number
# of real images would score among themselves.

real = np.concatenate([x for x, _ in test.as_numpy_iterator()])
print(evaluation.sample_quality(gan, real))
