"""Train a variational autoencoder: `python scripts/train_vae.py --help` lists the flags, each with its default."""

import tyro

from keras_gen.training.config import VAEConfig
from keras_gen.training.run import train

if __name__ == "__main__":
    train(tyro.cli(VAEConfig, description=__doc__))
