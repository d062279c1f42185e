"""Build the embedded data set `mnist_mini` from MNIST.

    python tools/build_mnist_mini.py --data-dir ~/tensorflow_datasets

The script selects the first 1,000 training images and the first 200 test images of each digit, in
the order of TFDS. It writes them to `keras_gen/data/mnist_mini/`, as a data set prepared by TFDS.
"""

import collections
import dataclasses
import pathlib

import tensorflow_datasets as tfds
import tyro

from keras_gen import data

HOMEPAGE = "http://yann.lecun.com/exdb/mnist/"
CITATION = """@article{lecun1998gradient,
  title={Gradient-based learning applied to document recognition},
  author={LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal={Proceedings of the IEEE}, volume={86}, number={11}, pages={2278--2324}, year={1998}}"""


@dataclasses.dataclass
class Config:
    """Location of MNIST and of the output."""

    data_dir: str
    """Folder of all TFDS data sets, with MNIST."""
    output: pathlib.Path = data.MNIST_MINI.parents[1]
    """Folder in which `mnist_mini/1.0.0/` is written."""


def first_of_each_class(examples, count):
    """Yield `(number, example)` for the first `count` examples of each label, in their order."""
    seen = collections.Counter()
    for example in examples:
        label = int(example["label"])
        if seen[label] < count:
            yield seen.total(), example
            seen[label] += 1


def main(config: Config):
    """Write `mnist_mini` below `config.output`."""
    full = tfds.load("mnist", data_dir=config.data_dir, shuffle_files=False)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="mnist_mini",
        version="1.0.0",
        data_dir=config.output,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        ),
        split_datasets={
            "train": first_of_each_class(tfds.as_numpy(full["train"]), 1000),
            "test": first_of_each_class(tfds.as_numpy(full["test"]), 200),
        },
        description=(
            "A part of MNIST: the first 1,000 training images and 200 test images of each digit. "
            "Licence: CC BY-SA 3.0."
        ),
        homepage=HOMEPAGE,
        citation=CITATION,
        disable_shuffling=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
