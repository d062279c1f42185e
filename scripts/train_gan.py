"""Train a GAN: `python scripts/train_gan.py --help` lists the flags, each with its default."""

import sys

from keras_gen import cli

if __name__ == "__main__":
    cli.main(["train", "gan", *sys.argv[1:]])
