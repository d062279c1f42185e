"""Train a regularized autoencoder: `python scripts/train_autoencoder.py --help` lists the flags."""

import sys

from keras_gen import cli

if __name__ == "__main__":
    cli.main(["train", "autoencoder", *sys.argv[1:]])
