"""Train a regularized autoencoder: `python scripts/train_autoencoder.py --help` lists the flags, each with its default."""

import tyro

from keras_gen.training.config import AutoencoderConfig
from keras_gen.training.run import train

if __name__ == "__main__":
    train(tyro.cli(AutoencoderConfig, description=__doc__))
