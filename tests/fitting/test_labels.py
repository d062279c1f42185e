"""Labels outside their range are refused in every source of data, method and served signature."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import CLASSES, SERVED

from keras_gen import evaluation

KINDS = ("conditional_vae", "conditional_gan")
MODES = {"eager": {"run_eagerly": True}, "graph": {}, "XLA": {"jit_compile": True}}
RANGE = re.escape("integers of shape (batch,) from 0 to 3")


@pytest.fixture(params=KINDS)
def name(request):
    return request.param


def compiled(name, **mode):
    keras.utils.set_random_seed(0)
    model, arguments = SERVED[name]()
    model.compile(**arguments, **mode)
    return model


def labels_with(label, number=20):
    labels = np.arange(number) % CLASSES
    labels[13] = label
    return labels


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("label", [-1, CLASSES])
def test_labels_of_a_data_set_are_checked_in_the_step(name, mode, label, images):
    model = compiled(name, **MODES[mode])
    before = model.get_weights()
    dataset = tf.data.Dataset.from_tensor_slices((images, labels_with(label))).batch(20)
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=rf"{RANGE}.*Received: {label} at index 13\."):
            method(dataset, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("label", [-1, CLASSES, 2**40])
def test_labels_of_arrays_and_generators_are_checked(label, images):
    model = compiled("conditional_vae")
    labels = labels_with(label)
    valid = np.arange(20) % CLASSES
    for y, arguments in (
        (labels, {}),
        (tf.constant(labels), {}),
        (valid, {"validation_data": (images, labels)}),
    ):
        with pytest.raises(ValueError, match=rf"{RANGE}.*Received: {label} at index 13\."):
            model.fit(images, y, verbose=0, **arguments)
    with pytest.raises(ValueError, match=rf"{RANGE}.*Received: {label} at index 13\."):
        model.fit(((images, labels) for _ in range(2)), steps_per_epoch=2, verbose=0)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array(["cat"] * 20), r"np.unique\(labels, return_inverse=True\)"),
        (np.array(["cat"] * 20, object), r"np.unique\(labels, return_inverse=True\)"),
        (np.full(20, np.nan), r"of float64. Convert the labels: labels.astype\(int\)"),
        (np.full(20, 1.0), "of float64"),
        (np.full(20, True), "of bool"),
        (np.eye(20, CLASSES, dtype=int), r"shape \(20, 4\)"),
        (np.arange(19) % CLASSES, "19"),
    ],
)
def test_labels_of_another_form_are_refused(labels, said, images):
    model = compiled("conditional_vae")
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=said):
            call(images, labels, verbose=0)
    for call in (model.encode, model.score, model.reconstruct, model.latents, model.log_weights):
        with pytest.raises(ValueError, match=said):
            call(images, labels)


def methods(model, images, labels):
    """Yield a call of each method that takes labels."""
    latents = np.zeros((len(images), 3), "float32")
    yield lambda: model.decode(latents, labels)
    yield lambda: model.generate(len(images), seed=0, condition=labels)
    yield lambda: model.generate_rows(np.arange(len(images)), labels)
    yield lambda: evaluation.interpolate(model, latents, latents, 2, labels)
    if not model.has_encoder:
        yield lambda: model.discriminate(images, labels)
        yield lambda: model((latents, labels))
        yield lambda: model.predict((latents, labels), verbose=0)
        return
    for method in (model.encode, model.latents, model.reconstruct, model.score, model.log_weights):
        yield lambda method=method: method(images, labels)
    yield lambda: model((images, labels))
    yield lambda: model.predict((images, labels), verbose=0)
    yield lambda: evaluation.latents(model, images, labels)
    yield lambda: evaluation.log_likelihood(model, images, labels, num_samples=2, verbose=0)
    yield lambda: evaluation.latent_report(model, images, labels)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_every_method_refuses_a_label_outside_the_range(name, label, images, models):
    model = models[name]
    for number, call in enumerate(methods(model, images, np.arange(20) % CLASSES)):
        call()
        assert number < 20
    for call in methods(model, images, labels_with(label)):
        with pytest.raises(ValueError, match="from 0 to 3"):
            call()


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_every_signature_refuses_a_label_outside_the_range(name, label, images, published):
    signatures = tf.saved_model.load(str(published / name / "1")).signatures
    given = {
        "inputs": tf.constant(images),
        "latents": tf.zeros((20, 3)),
        "seed": tf.range(20, dtype=tf.int64),
    }
    served = [signature for signature in signatures if not signature.endswith("_bytes")]
    assert {"serving_default", "decode", "generate"} <= set(served)
    for signature in served:
        function = signatures[signature]
        specs = function.structured_input_signature[1]
        inputs = {key: given[key] for key in specs if key in given}
        function(**inputs, condition=tf.constant(np.arange(20) % CLASSES))
        # TensorFlow Serving returns the text of this error
        with pytest.raises(tf.errors.InvalidArgumentError, match=RANGE):
            function(**inputs, condition=tf.constant(labels_with(label)))


def test_labels_inside_a_function_of_the_user_are_checked(images, models):
    model = models["conditional_vae"]
    score = tf.function(model.score)
    score(images, np.arange(20) % CLASSES)
    with pytest.raises(tf.errors.InvalidArgumentError, match=RANGE):
        score(images, labels_with(-1))
