"""Detect anomalies in images: train an autoencoder on one digit, and find the other digits.

    python scripts/detect_anomalies.py
    python scripts/detect_anomalies.py --digit 8 --false-alarm-rate 0.02 --output detector

The script writes a figure of the images with the largest anomaly scores, and a SavedModel that
returns scores and flags. It takes half a minute on two cores.
"""

import argparse
import pathlib

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from keras_gen import RegularizedAutoencoder, data, evaluation, networks

IMAGE = (28, 28, 1)
LATENTS = 16


def main():
    """Train, calibrate, score and export a detector."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--digit", type=int, default=3, help="the digit that is no anomaly")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training images")
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        default=0.05,
        help="largest share of images of the digit that may be flagged (default: 0.05)",
    )
    parser.add_argument(
        "--output", type=pathlib.Path, default="anomalies", help="folder of the results"
    )
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    # 1. Data. The detector learns from images of one digit only. A fifth of them is held out for
    # the threshold, because the scores of images that the model was trained on are too small.
    training, test = data.load("mnist_mini", labels=True)
    x, labels = data.as_arrays(training)
    x = x[labels == arguments.digit]
    held_out = len(x) // 5
    x_calibration, x_train = x[:held_out], x[held_out:]
    x_test, test_labels = data.as_arrays(test)
    is_anomaly = test_labels != arguments.digit

    # 2. Networks. The autoencoder maps an image to 16 latents and back. With few latents, it can
    # reconstruct only images that are similar to the training images.
    encoder = networks.mlp(IMAGE, (LATENTS,), hidden=(256,))
    decoder = networks.mlp((LATENTS,), IMAGE, hidden=(256,), output_activation="sigmoid")
    detector = RegularizedAutoencoder(encoder, decoder, seed=0)

    # 3. Training. The anomaly score of an image is its loss, the mean squared error.
    detector.compile(keras.optimizers.Adam(1e-3), loss="mse")
    detector.fit(x_train, batch_size=64, epochs=arguments.epochs, verbose=0)

    # 4. Threshold. An image of the digit is flagged with at most the given probability.
    threshold = detector.calibrate(x_calibration, false_alarm_rate=arguments.false_alarm_rate)
    print(f"Threshold: {threshold:.4f}")

    # 5. Scores of new images. The labels of the test images are only used to measure the quality.
    scores = detector.score(x_test).numpy()
    flags = detector.is_anomaly(x_test).numpy()
    print(f"AUROC: {roc_auc_score(is_anomaly, scores):.3f}")
    print(f"Anomalies that were found: {np.mean(flags[is_anomaly]):.1%}")
    print(f"False alarms: {np.mean(flags[~is_anomaly]):.1%}")

    # 6. Explanation. The figure shows the images with the largest scores, their reconstructions,
    # and heat maps of the pixels that add most to the score.
    arguments.output.mkdir(parents=True, exist_ok=True)
    figure = arguments.output / "anomalies.png"
    evaluation.save_anomalies(detector, figure, x_test)

    # 7. Deployment. The function `score` of the SavedModel returns the score, the flag and the
    # score per pixel. The .keras file contains the threshold, too.
    detector.save(arguments.output / "detector.keras")
    detector.export(arguments.output / "1")
    print(f"The figure is {figure}. The SavedModel is {arguments.output / '1'}.")


if __name__ == "__main__":
    main()
