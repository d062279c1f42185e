"""Export a trained model as the next version of a SavedModel: `python scripts/export.py runs/vae`."""

import tyro

from keras_gen.cli import Export

if __name__ == "__main__":
    tyro.cli(Export, description=__doc__)()
