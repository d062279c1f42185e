"""Pipeline: single examples → batches."""

import tensorflow as tf

_MEMORY_LIMIT = 2**30  # bytes of decoded examples that are kept in memory


def without_label(x, *_):
    return x


def batches(examples, batch_size, seed, binarize, shuffle=False):
    options = tf.data.Options()
    options.autotune.enabled = (
        False  # tf.data's tuner held the first batch of every other epoch back for two seconds
    )
    count = int(examples.cardinality())
    spec = tf.nest.flatten(examples.element_spec)[0]
    fits = (
        count > 0
        and spec.shape.is_fully_defined()
        and count * spec.shape.num_elements() * spec.dtype.size <= _MEMORY_LIMIT
    )
    if (
        fits
    ):  # not `cache()`, which a reader that stops half-way leaves truncated for all who come after
        kept = next(iter(examples.batch(count).with_options(options)))
        examples = tf.data.Dataset.range(
            count
        )  # numbers alone go one by one through shuffling and batching
    if shuffle and count != 0:
        examples = examples.shuffle(count if fits else 10_000, seed=seed)
    batches = examples.batch(
        batch_size, drop_remainder=count > 0 and count % batch_size == 0
    )  # their size known to the graph
    if binarize:
        batches = tf.data.Dataset.zip(
            (batches, tf.data.Dataset.random(seed, rerandomize_each_iteration=shuffle))
        )

    def made(batch, seed=None):  # one function, since each has a price
        x, *y = tf.nest.flatten(
            tf.nest.map_structure(lambda values: tf.gather(values, batch), kept) if fits else batch
        )
        x = tf.cast(x, tf.float32) / (x.dtype.max if x.dtype.is_integer else 1.0)
        if binarize:
            x = tf.cast(tf.random.stateless_uniform(tf.shape(x), (seed, 0)) < x, tf.float32)
        return (x, *y) if y else x

    return batches.map(made).prefetch(2).with_options(options)
