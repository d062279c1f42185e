"""DiffAugment: what it does to images, its gradient, and where a GAN applies it."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, tiny_gan

from keras_gen import GAN, losses, networks
from keras_gen.augmentations import DiffAugment

IMAGES = np.random.default_rng(0).random((300, 8, 12, 3), dtype=np.float32)


def shifted(image, rows, columns):
    """Return an image whose pixel (i, j) is the pixel (i + rows, j + columns), 0.5 outside."""
    result = np.full_like(image, 0.5)
    for i, j in np.ndindex(image.shape[:2]):
        if 0 <= i + rows < image.shape[0] and 0 <= j + columns < image.shape[1]:
            result[i, j] = image[i + rows, j + columns]
    return result


def test_a_translation_moves_each_image_by_all_numbers_of_pixels_up_to_the_largest():
    moved = DiffAugment(["translation"], translation=0.25)(IMAGES, seed=(1, 2)).numpy()
    found = set()
    for image, result in zip(IMAGES, moved, strict=True):
        shifts = itertools.product(range(-2, 3), range(-3, 4))
        found |= {
            shift for shift in shifts if np.allclose(shifted(image, *shift), result, atol=1e-6)
        }
        assert any(np.allclose(shifted(image, *shift), result, atol=1e-6) for shift in found)
    assert found == set(itertools.product(range(-2, 3), range(-3, 4)))


def test_a_cutout_is_a_rectangle_at_every_place_also_across_the_edges():
    cut = DiffAugment(["cutout"], cutout=0.5)(IMAGES, seed=(1, 2)).numpy()
    rows, columns = set(), set()
    for image, result in zip(IMAGES, cut, strict=True):
        changed = np.all(np.isclose(result, 0.5), axis=-1)
        np.testing.assert_allclose(result[~changed], image[~changed], atol=1e-6)
        found = [np.flatnonzero(changed.any(axis=1 - axis)) for axis in (0, 1)]
        np.testing.assert_array_equal(changed, np.outer(*[changed.any(1), changed.any(0)]))
        rows.add((found[0][0], found[0][-1]))
        columns.add((found[1][0], found[1][-1]))
    assert rows == {(max(i - 2, 0), min(i + 1, 7)) for i in range(9)}
    assert columns == {(max(i - 3, 0), min(i + 2, 11)) for i in range(13)}


def test_the_smallest_cutout_is_one_pixel():
    cut = DiffAugment(["cutout"], cutout=0.01)(IMAGES, seed=(1, 2)).numpy()
    changed = np.all(np.isclose(cut, 0.5), axis=-1)
    np.testing.assert_array_equal(changed.sum(axis=(1, 2)), 1)
    assert np.all(changed.any(axis=(0, 1)))  # in every column
    assert np.all(changed.any(axis=(0, 2)))  # in every row


def test_the_place_of_a_cutout_does_not_depend_on_the_translation():
    images = np.broadcast_to(10 + np.arange(8, dtype="float32")[:, None, None], (300, 8, 8, 1))
    moved = DiffAugment(["translation"], translation=0.5)(images, seed=(1, 2)).numpy()
    row = moved[:, 4].max(axis=(1, 2))  # row 4 + shift of the image, or an empty row
    shift = np.where(row < 5, 4, row - 14)
    assert set(shift) == set(range(-4, 5))
    cut = DiffAugment(["cutout"])(images, seed=(1, 2)).numpy()
    changed = np.isclose(cut, 0.5).any(axis=(2, 3))
    center = [np.flatnonzero(rows)[[0, -1]].mean() for rows in changed]
    assert abs(np.corrcoef(shift, center)[0, 1]) < 4 / np.sqrt(300)


def test_a_move_may_be_as_far_as_the_image_is_large():
    assert DiffAugment(translation=1, cutout=1.0).translation == 1.0


def test_a_change_of_color_is_brightness_then_saturation_then_contrast():
    """Each of the three factors is found from the output, and is uniform in its interval."""
    changed = DiffAugment(["color"])(IMAGES, seed=(1, 2)).numpy().astype("float64")
    x = IMAGES.astype("float64")

    def grey(images):
        return images.mean(axis=3, keepdims=True)

    axes = (1, 2, 3)
    brightness = changed.mean(axes) - x.mean(axes)  # the other changes keep the mean
    # the contrast is the factor of the grey values around their mean
    contrast = np.std(grey(changed), axes) / np.std(grey(x), axes)
    saturation = np.std(changed - grey(changed), axes) / np.std(x - grey(x), axes) / contrast
    for values, low, high in ((brightness, -0.25, 0.25), (contrast, 0.5, 1.5), (saturation, 0, 2)):
        assert low - 1e-4 <= values.min() < low + 0.03 * (high - low)
        assert high + 1e-4 >= values.max() > high - 0.03 * (high - low)
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 300)
    shape = (-1, 1, 1, 1)
    expected = x + brightness.reshape(shape)
    expected = grey(expected) + saturation.reshape(shape) * (expected - grey(expected))
    mean = expected.mean(axes, keepdims=True)
    expected = mean + contrast.reshape(shape) * (expected - mean)
    np.testing.assert_allclose(changed, expected, atol=1e-4)


def test_the_range_of_the_data_scales_the_changes():
    unit = DiffAugment()(IMAGES, seed=(1, 2))
    symmetric = DiffAugment(data_range=(-1, 1))(2 * IMAGES - 1, seed=(1, 2))
    np.testing.assert_allclose(symmetric, 2 * unit - 1, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_gradient_is_that_of_finite_differences(jit_compile):
    """The changes are linear in the pixels, so that any difference is exact."""
    augment = DiffAugment()
    random = np.random.default_rng(1)
    x, direction = random.normal(size=(2, 2, 6, 5, 3)).astype("float32")
    weights = random.normal(size=x.shape).astype("float32")

    @tf.function(jit_compile=jit_compile)
    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(weights * augment(x, seed=(3, 4)))
        return value, tape.gradient(value, x)

    gradient = value_and_gradient(tf.constant(x))[1]
    differences = (
        value_and_gradient(tf.constant(x + direction))[0]
        - (value_and_gradient(tf.constant(x - direction))[0])
    )
    assert float(tf.reduce_sum(gradient * direction)) == pytest.approx(
        float(differences) / 2, rel=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"changes": []}, "`changes` must contain one or more of"),
        ({"changes": "color"}, "`changes` must contain one or more of"),
        ({"changes": ["colour"]}, r"Received: changes=\['colour'\]"),
        ({"translation": 0}, "`translation` must be a number above 0"),
        ({"cutout": 1.5}, "`cutout` must be a number above 0, and at most 1"),
        ({"data_range": (1, 1)}, "`data_range` must be the smallest and the largest value"),
        ({"data_range": (1, 0)}, "`data_range` must be the smallest and the largest value"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiffAugment(**arguments)


# === In a GAN ===


class Doubled(DiffAugment):
    """Doubles the pixels, so that a reference can do the same."""

    def __call__(self, x, seed):
        return 2 * x


@pytest.mark.parametrize("loss", [losses.NonSaturating(), losses.RelativisticPairing()])
def test_both_networks_and_the_penalties_see_augmented_images(images, loss):
    """It is the training with a discriminator whose first layer doubles the pixels.

    The gradient of the penalty is that with respect to the augmented images, so that this factor
    does not count.
    """
    histories = []
    for doubled in (False, True):
        keras.utils.set_random_seed(0)
        generator = networks.mlp((3,), IMAGE, hidden=(6,), output_activation="sigmoid")
        inner = networks.mlp(IMAGE, (1,), hidden=(6,), activation="tanh")
        discriminator = inner
        if doubled:
            scale = keras.layers.Rescaling(2.0)
            discriminator = keras.Sequential([keras.Input(IMAGE), scale, inner])
        model = GAN(generator, discriminator, seed=0)
        weight = 0.4
        model.compile(
            keras.optimizers.Adam(0.01, 0.5),
            keras.optimizers.Adam(0.01, 0.5),
            loss=loss,
            # ∇D with respect to the images that are not doubled is twice as large
            penalties=[losses.R1(weight / (4 if doubled else 1))],
            augment=None if doubled else Doubled(),
            run_eagerly=True,
        )
        history = model.fit(images, batch_size=10, epochs=2, shuffle=False, verbose=0).history
        histories.append(history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-4, atol=1e-6)


def test_a_gan_with_augmentation_is_saved_and_evaluates_without_it(images, tmp_path):
    model, arguments = tiny_gan()
    augment = DiffAugment(["cutout", "translation"], cutout=0.25)
    model.compile(**arguments, augment=augment, run_eagerly=True)
    model.fit(images, batch_size=10, verbose=0)
    model.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert repr(loaded.augment) == repr(augment)
    expected = model.evaluate(images, verbose=0, return_dict=True)
    model.augment = None
    assert model.evaluate(images, verbose=0, return_dict=True) == expected


@pytest.mark.parametrize("augment", ["color", DiffAugment, lambda x, seed: x])
def test_an_invalid_augmentation_is_refused(augment):
    model, arguments = tiny_gan()
    with pytest.raises(ValueError, match=r"`augment` of a GAN must be a .*DiffAugment.* Received"):
        model.compile(**arguments, augment=augment)


def test_an_augmentation_needs_images():
    generator = networks.mlp((3,), (9,), output_activation="sigmoid")
    model = GAN(generator, networks.mlp((9,), (1,)))
    with pytest.raises(ValueError, match=r"`augment` must be None unless the data are images"):
        model.compile(augment=DiffAugment())
