"""Train a GAN: `python scripts/train_gan.py --help` lists the flags."""

import sys

from keras_gen import cli

if __name__ == "__main__":
    cli.main(["train", "gan", *sys.argv[1:]])
