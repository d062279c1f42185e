"""The program of each worker in the tests of `MultiWorkerMirroredStrategy`."""

import json
import pathlib

import numpy as np


def train(folder, worker):
    """Train tiny models in the scope of the strategy, as a user's script would.

    The weights and the logs are written into `folder`.

    Args:
        folder: A folder.
        worker: Function that makes this process one of the workers.
    """
    worker()
    import keras
    import tensorflow as tf
    from support import IMAGE, MODELS

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    index = strategy.cluster_resolver.task_id
    x = np.random.default_rng(0).random((20, *IMAGE), dtype=np.float32)
    for kind in ("autoencoder", "gan"):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model, arguments = MODELS[kind]()
            model.compile(**arguments)
        data = tf.data.Dataset.from_tensor_slices(x).batch(8)  # each worker has 2 of the last 4
        history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
        seeds = strategy.run(lambda model=model: model.noise_seed(training=True))
        seed = strategy.experimental_local_results(seeds)[0]
        np.savez(f"{folder}/{kind}-{index}.npz", *model.get_weights())
        result = {
            "history": history,
            "evaluate": model.evaluate(data, verbose=0, return_dict=True),
            "seed": seed.numpy().tolist(),
        }
        pathlib.Path(f"{folder}/{kind}-{index}.json").write_text(json.dumps(result))
