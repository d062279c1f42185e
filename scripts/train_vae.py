"""Train a variational autoencoder: `python scripts/train_vae.py --help` lists the flags."""

import sys

from keras_gen import cli

if __name__ == "__main__":
    cli.main(["train", "vae", *sys.argv[1:]])
