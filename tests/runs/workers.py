"""What each of two workers does in the tests of `MultiWorkerMirroredStrategy`: trains tiny models, and leaves weights and logs."""

import json
import pathlib

import numpy as np


def train(folder, worker):
    """Train a model of each kind inside the scope, as a script of one's own would, in a process that `worker` makes one of two."""
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
        data = tf.data.Dataset.from_tensor_slices(x).batch(
            8
        )  # of the last batch each worker has two
        history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
        seed = strategy.experimental_local_results(
            strategy.run(lambda model=model: model.noise_seed(training=True))
        )[0]
        np.savez(f"{folder}/{kind}-{index}.npz", *model.get_weights())
        result = {
            "history": history,
            "evaluate": model.evaluate(data, verbose=0, return_dict=True),
            "seed": seed.numpy().tolist(),
        }
        pathlib.Path(f"{folder}/{kind}-{index}.json").write_text(json.dumps(result))
