"""Train a GAN: `python scripts/train_gan.py --help` lists the flags, each with its default."""

import tyro

from keras_gen.training.config import GANConfig
from keras_gen.training.run import train

if __name__ == "__main__":
    train(tyro.cli(GANConfig, description=__doc__))
