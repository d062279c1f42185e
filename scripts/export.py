"""Export the model of a run as a SavedModel: `python scripts/export.py runs/vae`."""

import sys

from keras_gen import cli

if __name__ == "__main__":
    cli.main(["export", *sys.argv[1:]])
