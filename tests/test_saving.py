"""Saving loses nothing: all arguments and attributes come back, or a `ValueError` says why not."""

import copy
import dataclasses
import inspect
import json
import pickle
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import IMAGE, LATENTS, tiny, tiny_gan, tiny_vae

import keras_gen
from keras_gen import distributions, losses, networks, objectives, regularizers
from keras_gen._serialization import from_config
from keras_gen.fitting.checkpoints import _first_difference as first_difference

register = keras.saving.register_keras_serializable("tests_saving")


def saved_and_loaded(instance):
    """Return an object after the way through JSON that Keras takes when it saves a model."""
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(instance)))
    return keras.saving.deserialize_keras_object(serialized)


def file_and_back(model, folder, **arguments):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras", **arguments)


def vae_parts():
    posterior, likelihood = distributions.DiagonalNormal(LATENTS), distributions.Bernoulli(IMAGE)
    return {
        "encoder": networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(4,)),
        "decoder": networks.mlp((LATENTS,), IMAGE, hidden=(4,)),
        "posterior": posterior,
        "likelihood": likelihood,
    }


# === Constructors with *args and **kwargs ===


@register
class MyVAE(keras_gen.VAE):
    def __init__(self, note="none", **kwargs):
        super().__init__(**kwargs)
        self.note = note


@register
class PositionalVAE(keras_gen.VAE):
    def __init__(self, *args, note="none", **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note


@register
class SmallVAE(keras_gen.VAE):
    """It makes its parts, and accepts neither a seed nor the arguments of a Keras model."""

    def __init__(self, size):
        super().__init__(**vae_parts())
        self.size = size


@register
class SmallAutoencoder(keras_gen.RegularizedAutoencoder):
    def __init__(self, **kwargs):
        super().__init__(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)), **kwargs)


@register
class PlayfulGAN(keras_gen.GAN):
    def __init__(self, generator, discriminator, mood="calm", **kwargs):
        super().__init__(generator, discriminator, **kwargs)
        self.mood = mood


def test_a_vae_with_keyword_arguments_comes_back(tmp_path):
    model = MyVAE(**vae_parts(), prior=distributions.NormalMixture(LATENTS, 3), seed=0, note="x")
    loaded = file_and_back(model, tmp_path)
    assert repr(loaded.prior) == repr(model.prior)
    assert (loaded.seed, loaded.note) == (0, "x")
    np.testing.assert_array_equal(loaded.generate(2, seed=1), model.generate(2, seed=1))


def test_a_vae_with_positional_arguments_comes_back(tmp_path):
    model = PositionalVAE(
        *vae_parts().values(), distributions.LearnedNormal(LATENTS), seed=5, note="y", name="mine"
    )
    loaded = file_and_back(model, tmp_path)
    assert repr(loaded.prior) == repr(model.prior)
    assert (loaded.seed, loaded.note, loaded.name) == (5, "y", "mine")


def test_a_vae_that_makes_its_parts_comes_back_with_its_seed(tmp_path):
    model = SmallVAE(3)
    model.trainable = False
    loaded = file_and_back(model, tmp_path)
    assert (loaded.size, loaded.seed, loaded.name) == (3, model.seed, model.name)
    assert not loaded.trainable
    np.testing.assert_array_equal(loaded.generate(2, seed=1), model.generate(2, seed=1))


def test_a_gan_with_keyword_arguments_comes_back(tmp_path):
    gan, arguments = tiny_gan()
    prior = distributions.LearnedNormal(LATENTS)
    model = PlayfulGAN(gan.generator, gan.discriminator, mood="bold", prior=prior, seed=3)
    model.compile(**arguments)
    loaded = file_and_back(model, tmp_path)
    assert (loaded.mood, loaded.seed, repr(loaded.prior)) == ("bold", 3, repr(prior))
    np.testing.assert_array_equal(loaded.generate(2, seed=1), model.generate(2, seed=1))


def test_a_threshold_and_a_density_of_a_subclass_come_back(tmp_path):
    model = SmallAutoencoder()
    model.compile("adam", loss="mse")
    x = np.random.default_rng(0).random((30, 4), dtype=np.float32)
    model.calibrate(x, 0.5)
    model.fit_latent_density(x, 2)
    loaded = file_and_back(model, tmp_path)
    assert (loaded.threshold, loaded.seed) == (model.threshold, model.seed)
    np.testing.assert_array_equal(loaded.generate(3, seed=0), model.generate(3, seed=0))
    np.testing.assert_array_equal(loaded.is_anomaly(x), model.is_anomaly(x))


def test_a_threshold_that_is_changed_after_construction_comes_back(tmp_path):
    model = SmallAutoencoder(threshold=0.5, seed=2)
    model.threshold = 0.25
    loaded = file_and_back(model, tmp_path)
    assert (loaded.threshold, loaded.seed) == (0.25, 2)


@register
class CappedELBO(objectives.ELBO):
    def __init__(self, cap=500.0, **kwargs):
        super().__init__(**kwargs)
        self.cap = cap


def test_the_objective_of_the_guide_comes_back_and_shows_its_arguments(tmp_path):
    objective = CappedELBO(cap=7.0, kl_weight=0.1, num_samples=4)
    assert repr(objective) == "CappedELBO(cap=7.0, kl_weight=0.1, num_samples=4)"
    assert repr(saved_and_loaded(objective)) == repr(objective)
    model, _ = tiny_vae()
    model.compile("adam", objective=objective)
    assert repr(file_and_back(model, tmp_path).objective) == repr(objective)


@register
class DeepELBO(CappedELBO):
    """The arguments pass through two constructors."""

    def __init__(self, *args, depth=1, **kwargs):
        super().__init__(*args, **kwargs)
        self.depth = depth


@register
class PositionOnlyELBO(objectives.ELBO):
    def __init__(self, cap, /, floor=0, *, kl_weight=1.0):
        super().__init__(kl_weight)
        self.cap = cap
        self.floor = floor


@register
class OptionsELBO(objectives.ELBO):
    """The arguments stay in the attributes `sizes` and `options`."""

    def __init__(self, *sizes, **options):
        super().__init__()
        self.sizes = sizes
        self.options = options


@register
@dataclasses.dataclass(repr=False)
class DataELBO(objectives.Objective):
    cap: float = 5.0
    shape: tuple[int, ...] = (1, 2)


@register
class ReadOnlyELBO(objectives.ELBO):
    """Its arguments are properties. One is limited to 2, and one is made anew by each access."""

    def __init__(self, cap=1.0, schedule=None):
        super().__init__()
        self._cap = min(cap, 2.0)
        self._steps = schedule.steps if schedule else 1

    @property
    def cap(self):
        return self._cap

    @property
    def schedule(self):
        return objectives.LinearWarmUp(self._steps)


@register
class ListELBO(objectives.ELBO):
    def __init__(self, caps):
        super().__init__()
        self.caps = [*caps]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (ReadOnlyELBO, {"cap": 1.0}),
        (
            lambda: ReadOnlyELBO(1.5, objectives.LinearWarmUp(9)),
            {"cap": 1.5, "schedule": objectives.LinearWarmUp(9)},
        ),
        (lambda: ListELBO(np.arange(2.0)), {"caps": [0.0, 1.0]}),
        (
            lambda: CappedELBO({"class_name": "Dense", "config": {"units": 1}}),
            {"cap": {"class_name": "Dense", "config": {"units": 1}}},
        ),
        (
            lambda: DeepELBO(3.0, depth=2, free_bits=0.5),
            {"cap": 3.0, "depth": 2, "free_bits": 0.5, "kl_weight": 1.0},
        ),
        (
            lambda: DeepELBO(3.0, kl_weight=objectives.LinearWarmUp(9)),
            {"cap": 3.0, "kl_weight": objectives.LinearWarmUp(9)},
        ),
        (
            lambda: PositionOnlyELBO(3, 4, kl_weight=0.5),
            {"cap": 3, "floor": 4, "kl_weight": 0.5},
        ),
        (
            lambda: OptionsELBO(1, (2, 3), a={"b": (1,)}),
            {"sizes": (1, (2, 3)), "options": {"a": {"b": (1,)}}},
        ),
        (lambda: DataELBO(2.0, (3, 4, 5)), {"cap": 2.0, "shape": (3, 4, 5)}),
        (
            lambda: CappedELBO({1: "a", (2, 3): None, "class_name": 4}),
            {"cap": {1: "a", (2, 3): None, "class_name": 4}},
        ),
        (lambda: CappedELBO([np.float32(1.5), float("inf")]), {"cap": [1.5, float("inf")]}),
    ],
)
def test_arguments_of_every_form_come_back(make, expected):
    loaded = saved_and_loaded(make())
    found = {name: getattr(loaded, name) for name in expected}
    assert repr(found) == repr(expected)
    again = saved_and_loaded(loaded)
    assert repr({name: getattr(again, name) for name in expected}) == repr(expected)


@register
class Laplace(distributions.Prior):
    """Its constructor does not accept the arguments of a Keras layer."""

    def __init__(self, event_size, spread=1.0):
        super().__init__(event_size)
        self.spread = spread
        self.location = self.add_weight((event_size,), "zeros", name="location", autocast=False)


def test_a_layer_without_the_arguments_of_keras_comes_back():
    prior = Laplace(2, 0.5)
    prior.trainable = False
    loaded = saved_and_loaded(prior)
    assert (loaded.spread, loaded.trainable, loaded.name) == (0.5, False, prior.name)


@register
class ForwardingPrior(distributions.Prior):
    def __init__(self, event_size, **kwargs):
        super().__init__(event_size, **kwargs)


@pytest.mark.parametrize(
    "make",
    [ForwardingPrior, distributions.StandardNormal],
)
def test_the_arguments_of_a_keras_layer_come_back(make):
    layer = make(2, dtype="float64", name="mine", trainable=False)
    loaded = saved_and_loaded(layer)
    assert (loaded.dtype, loaded.name, loaded.trainable) == ("float64", "mine", False)


@register
class OptionsPrior(distributions.Prior):
    """Its constructor keeps all keyword arguments, and passes none to Keras."""

    def __init__(self, event_size, **options):
        super().__init__(event_size)
        self.options = options


def test_a_layer_receives_only_the_keyword_arguments_that_it_was_made_with():
    assert saved_and_loaded(OptionsPrior(2, a=1)).options == {"a": 1}


def test_the_configuration_of_an_own_class_has_its_arguments_and_no_more():
    assert losses.R1(2.0).get_config() == {"weight": 2.0, "every": 1}
    config = distributions.StandardNormal(2).get_config()
    assert set(config) == {"event_size", "name", "dtype", "trainable"}


def test_a_text_that_is_also_the_name_of_a_custom_object_stays_a_text():
    config = CappedELBO("Shift").get_config()
    assert from_config(CappedELBO, config, {"Shift": Shift}).cap == "Shift"


def test_a_layer_is_made_under_the_dtype_policy_of_its_first_construction():
    keras.config.set_dtype_policy("float64")
    prior = Laplace(2)
    keras.config.set_dtype_policy("float32")
    loaded = saved_and_loaded(prior)
    assert (loaded.dtype, loaded.location.dtype) == ("float64", "float32")
    assert keras.config.dtype_policy().name == "float32"


@register
class Smooth(losses.NonSaturating):
    strength = 1.0
    limit = float("nan")
    schedule = objectives.LinearWarmUp(3)
    options = None
    _calls = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


def test_attributes_of_the_class_that_are_set_later_come_back():
    loss = Smooth(0.1)
    loss.strength = 2.0
    loss.paired = True
    loaded = saved_and_loaded(loss)
    assert (loaded.label_smoothing, loaded.strength, loaded.paired) == (0.1, 2.0, True)
    loss.strength = float("nan")
    loss.limit = 2.0
    loss.schedule = objectives.LinearWarmUp(5)
    loaded = saved_and_loaded(loss)
    assert np.isnan(loaded.strength)
    assert loaded.limit == 2.0
    assert loaded.schedule.steps == 5
    likelihood = distributions.Normal(IMAGE)
    likelihood.support = (0.0, 1.0)
    assert saved_and_loaded(likelihood).support == (0.0, 1.0)


def test_private_attributes_and_those_without_a_serialized_form_are_not_saved():
    loss = Smooth(0.1)
    loss._calls = 5
    loss.options = {"a": object()}
    loaded = saved_and_loaded(loss)
    assert (loaded._calls, loaded.options) == (0, None)


def test_an_argument_that_is_changed_later_comes_back_changed():
    objective = CappedELBO(kl_weight=0.5)
    objective.num_samples = 3
    objective.kl_weight = 0.25
    loaded = saved_and_loaded(objective)
    assert (loaded.num_samples, loaded.kl_weight, loaded.cap) == (3, 0.25, 500.0)


# === What cannot be restored is refused ===


@register
class Doubled(objectives.ELBO):
    def __init__(self, cap=1.0):
        super().__init__()
        self.cap = 2 * cap


@register
class Swallowed(objectives.ELBO):
    def __init__(self, *sizes, **options):
        super().__init__()
        self.number = len(sizes) + len(options)


@register
class Halved(objectives.ELBO):
    def __init__(self, *args):
        super().__init__(*(value / 2 for value in args))


@register
class FirstOnly(CappedELBO):
    """Only the first argument is passed to the base class."""

    def __init__(self, *sizes):
        super().__init__(sizes[0])


@register
class OneNameTwice(objectives.ELBO):
    def __init__(self, cap, /, **options):
        super().__init__()
        self.cap = cap
        self.options = options


@register
class UpperCase(objectives.ELBO):
    def __init__(self, unit="bits"):
        super().__init__()
        if unit not in ("bits", "nats"):
            raise KeyError("unknown unit")
        self.unit = unit.upper()


@register
class NamedLikeKeras(distributions.Prior):
    def __init__(self, event_size, metrics=None):
        super().__init__(event_size)


@register
class NamedLikeAMethod(losses.NonSaturating):
    def __init__(self, generator=None):
        super().__init__()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Doubled(3.0), "does not keep `cap` unchanged. The constructor received cap=6.0"),
        (lambda: Swallowed(2), "received arguments through `*args`: (2,). Pass each of"),
        (lambda: Swallowed(*range(20)), "received arguments through `*args`: (0, 1, 2"),
        (lambda: Halved(3.0), "received arguments through `*args`: (3.0,). Pass each of"),
        (lambda: FirstOnly(3.0, 1.0), "received arguments through `*args`: (3.0, 1.0). Pass each"),
        (lambda: OneNameTwice(1, cap=2), "Missing: cap."),
        (lambda: ReadOnlyELBO(3.0), "Missing: cap."),
        (
            lambda: UpperCase("nats"),
            "UpperCase cannot be saved, because its constructor does not accept the attribute "
            "unit='NATS' ('unknown unit'). Keep the argument itself in the attribute `unit`",
        ),
        (lambda: Swallowed(a=1), "must keep each constructor argument in an attribute of the same"),
        (lambda: NamedLikeKeras(2, metrics=["mse"]), "Missing: metrics."),
        (lambda: NamedLikeAMethod(5), "Missing: generator."),
        (lambda: CappedELBO({1, 2}), "`cap` of CappedELBO cannot be saved. Expected a number"),
        (lambda: CappedELBO(objectives.ELBO().get_config), "`cap` of CappedELBO cannot be saved"),
        (lambda: CappedELBO(b"\xff"), "`cap` of CappedELBO cannot be saved"),
        (lambda: CappedELBO(object()), "`cap` of CappedELBO cannot be saved"),
    ],
)
def test_what_cannot_be_restored_is_refused_when_it_is_saved(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        keras.saving.serialize_keras_object(make())


@register
class Counted(objectives.ELBO):
    made = 0

    def __init__(self, cap=1.0, schedule=None):
        super().__init__()
        self.cap = cap
        self.schedule = schedule
        type(self).made += 1


def test_saving_an_object_with_unchanged_attributes_does_not_make_another():
    Counted(2.0, objectives.LinearWarmUp(5)).get_config()
    assert Counted.made == 1


@register
class HalvedVAE(keras_gen.VAE):
    def __init__(self, note, **kwargs):
        super().__init__(**kwargs)
        self.note = note / 2


def test_a_model_that_changes_an_argument_is_refused_when_it_is_loaded(tmp_path):
    with pytest.raises(ValueError, match="does not keep `note` unchanged"):
        file_and_back(HalvedVAE(4.0, **vae_parts()), tmp_path)


@register
class WithOwnMethods(objectives.ELBO):
    """It saves its argument itself, as a Keras object does."""

    def __init__(self, cap=1.0):
        super().__init__()
        self._cap = cap

    def get_config(self):
        return {"cap": self._cap}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_a_class_with_methods_of_its_own_is_saved_by_them():
    assert saved_and_loaded(WithOwnMethods(4.0))._cap == 4.0


# === Custom objects, copies, and files of Keras, as for a plain Keras model ===


class Shift(keras.layers.Layer):
    """A layer that is not registered with Keras."""

    def __init__(self, by=0.5, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, x):
        return x + self.by

    def get_config(self):
        return {**super().get_config(), "by": self.by}


def shifted_error(y, y_pred):
    return keras.ops.mean((y - y_pred) ** 2, axis=-1) + 1


@register
class PlainKeras(keras.Model):
    """A model of two networks, as a user of Keras writes it."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.built = True

    def call(self, x):
        return self.decoder(self.encoder(x))

    def get_config(self):
        networks = {"encoder": self.encoder, "decoder": self.decoder}
        serialize = keras.saving.serialize_keras_object
        return {**super().get_config(), **{n: serialize(v) for n, v in networks.items()}}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        deserialize = keras.saving.deserialize_keras_object
        networks = {n: deserialize(config.pop(n), custom_objects) for n in ("encoder", "decoder")}
        return cls(**networks, **config)


CUSTOM = {"Shift": Shift, "shifted_error": shifted_error}


def in_scope(function):
    def within(*arguments):
        with keras.saving.custom_object_scope(CUSTOM):
            return function(*arguments)

    return within


def in_another_scope(model, folder):
    with keras.saving.custom_object_scope({"other": Shift}):
        return file_and_back(model, folder, custom_objects=CUSTOM)


WAYS = {
    "without": file_and_back,
    "custom_objects": lambda *given: file_and_back(*given, custom_objects=CUSTOM),
    "not compiled": lambda *given: file_and_back(*given, custom_objects=CUSTOM, compile=False),
    "scope": in_scope(file_and_back),
    "another scope": in_another_scope,
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "deepcopy in scope": in_scope(lambda model, folder: copy.deepcopy(model)),
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "pickle in scope": in_scope(lambda model, folder: pickle.loads(pickle.dumps(model))),
    "clone_model": lambda model, folder: keras.models.clone_model(model),
    "clone_model in scope": in_scope(lambda model, folder: keras.models.clone_model(model)),
    "from_config": lambda model, folder: type(model).from_config(
        model.get_config(), custom_objects=CUSTOM
    ),
}


@pytest.fixture(scope="module")
def trained_pair():
    """Our autoencoder and a Keras model, with the same layers, loss and training."""
    x = np.random.default_rng(0).random((8, 4), dtype=np.float32)
    models = []
    for cls in (keras_gen.RegularizedAutoencoder, PlainKeras):
        encoder = keras.Sequential([keras.Input((4,)), Shift(1.5), keras.layers.Dense(2)])
        decoder = keras.Sequential([keras.Input((2,)), Shift(), keras.layers.Dense(4)])
        models.append(cls(encoder, decoder))
        models[-1].compile("adam", loss=shifted_error, metrics=[shifted_error], run_eagerly=True)
        models[-1].fit(x, x, verbose=0)
    return x, models


@pytest.mark.parametrize("way", WAYS)
def test_custom_objects_and_copies_are_as_for_a_keras_model(way, trained_pair, tmp_path):
    x, models = trained_pair
    outcomes = []
    for model in models:
        try:
            again = WAYS[way](model, tmp_path)
        except TypeError as error:
            outcomes.append(type(error))
            continue
        outcome = {"compiled": again.compiled}
        if "clone" not in way and way != "from_config":  # which have new weights
            np.testing.assert_array_equal(again(x), model(x))
        if again.compiled:
            again.run_eagerly = True
            assert again.evaluate(x, x, verbose=0)[0] > 1
            outcome["iterations"] = int(again.optimizer.iterations)
        outcomes.append(outcome)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda o: pickle.loads(pickle.dumps(o))]
)
@pytest.mark.parametrize(
    "make",
    [
        lambda: CappedELBO(cap=3.0, kl_weight=objectives.LinearWarmUp(5)),
        lambda: losses.R1(2.0, every=3),
        lambda: distributions.NormalMixture(2, 3),
        lambda: distributions.InverseAutoregressiveNormal(2, hidden_size=3),
    ],
)
def test_copies_of_parts_are_equal_and_can_be_saved(make, copied):
    original = make()
    again = copied(original)
    assert type(again) is type(original)
    assert repr(again) == repr(original)
    assert repr(saved_and_loaded(again)) == repr(original)
    for mine, theirs in zip(
        getattr(again, "weights", []), getattr(original, "weights", []), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_models_generate_the_same_and_are_independent(copied, kind, images):
    model = tiny(kind, run_eagerly=True)
    if kind == "autoencoder":
        model.fit_latent_density(images, 2)
        model.calibrate(images, 0.5)
    again = copied(model)
    expected = model.generate(2, seed=1).numpy()
    np.testing.assert_array_equal(again.generate(2, seed=1), expected)
    assert (again.seed, again.name) == (model.seed, model.name)
    assert getattr(again, "threshold", None) == getattr(model, "threshold", None)
    again.set_weights([weight + 1 for weight in again.get_weights()])
    np.testing.assert_array_equal(model.generate(2, seed=1), expected)


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
@pytest.mark.parametrize("save", [lambda model, path: model.save(path), keras.saving.save_model])
def test_hdf5_is_refused_and_leaves_the_model_usable(kind, save, suffix, tmp_path):
    model = tiny(kind)
    with pytest.raises(ValueError, match=r"Expected a file name that ends in '\.keras'"):
        save(model, tmp_path / f"model{suffix}")
    loaded = file_and_back(model, tmp_path)
    assert loaded.compiled
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    model.save_weights(tmp_path / "model.weights.h5")
    loaded.load_weights(tmp_path / "model.weights.h5")


def test_a_refused_hdf5_file_is_not_overwritten(tmp_path):
    path = tmp_path / "model.h5"
    path.write_text("before")
    with pytest.raises(ValueError, match="This old format of Keras does not support"):
        tiny("vae").save(path)
    assert path.read_text() == "before"


# === A property: random constructors ===

BASES = {
    objectives.ELBO: {"kl_weight": 0.25, "num_samples": 3},
    objectives.IWAE: {"num_samples": 3},
    objectives.LinearWarmUp: {"steps": 4, "end": 2.0},
    regularizers.LatentL1: {"weight": 0.5},
    losses.NonSaturating: {"label_smoothing": 0.25},
    losses.R1: {"weight": 2.0, "every": 3},
    distributions.NormalMixture: {"event_size": 2, "num_components": 3},
    distributions.Normal: {"event_shape": (2,), "scale": 0.5},
    distributions.DiagonalNormal: {"event_size": 2},
}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=2)
    ),
    max_leaves=4,
)
KINDS = ("position only", "either", "keyword only")


@st.composite
def constructors(draw, bases=tuple(BASES)):
    """Return a class with a random constructor, its arguments, and whether it keeps them."""
    base = draw(st.sampled_from(bases))
    names = [f"argument_{number}" for number in range(draw(st.integers(0, 3)))]
    kinds = sorted(draw(st.lists(st.sampled_from(KINDS), min_size=3, max_size=3)), key=KINDS.index)
    parameters = dict(zip(names, kinds, strict=False))
    how = {name: draw(st.sampled_from(("kept",) * 8 + ("renamed", "changed"))) for name in names}
    to_base = draw(st.sampled_from(("by name", "through *args", "not at all")))
    rest = draw(st.sampled_from(("forwarded", "kept", "dropped")))
    given_to_base = BASES[base]
    positional = [name for name, kind in parameters.items() if kind != "keyword only"]
    keyword = [name for name, kind in parameters.items() if kind == "keyword only"]
    variable = "*args" if to_base == "through *args" or draw(st.booleans()) else ""
    if not variable and keyword:
        variable = "*"
    position_only = [name for name in positional if parameters[name] == "position only"]
    signature = [*position_only, *(["/"] if position_only else [])]
    signature += [name for name in positional if name not in position_only]
    signature += [variable] if variable else []
    signature += [*(f"{name}=None" for name in keyword), "**kwargs"]
    forwarded = {
        "by name": "**kwargs",
        "through *args": "*args, **kwargs",
        "not at all": "**defaults, **kwargs" if rest == "forwarded" else "**defaults",
    }[to_base]
    lines = [f"def __init__(self, {', '.join(signature)}):"]
    lines += [f"    base.__init__(self, {forwarded})"]
    for name in names:
        value = f"[{name}]" if how[name] == "changed" else name
        attribute = f"_{name}" if how[name] == "renamed" else name
        lines += [f"    self.{attribute} = {value}"]
    extra = {}
    if to_base == "not at all" and rest != "forwarded":
        extra = {"other": draw(PLAIN)} if draw(st.booleans()) else {}
        lines += ["    self.kwargs = kwargs"] if rest == "kept" else []
    scope = {"base": base, "defaults": given_to_base}
    exec("\n".join(lines), scope)
    cls = type(f"Random{base.__name__}", (base,), {"__init__": scope["__init__"]})
    cls.__module__ = "outside"
    values = {name: draw(PLAIN) for name in names}
    args = [values[name] for name in positional]
    kwargs = {name: values[name] for name in keyword if draw(st.booleans())} | extra
    if to_base == "by name":
        kwargs |= given_to_base
    elif to_base == "through *args":
        args += given_to_base.values()
    keeps = all(each == "kept" for each in how.values()) and (not extra or rest == "kept")
    return cls, args, kwargs, keeps


def shown(value):
    """Return the text of a value, in which a list of Keras is a list."""
    if isinstance(value, dict):
        return {shown(key): shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value) is tuple, [shown(item) for item in value]
    return repr(value)


def is_text(value):
    """Return whether all bytes in a value are text, as Keras requires."""
    if isinstance(value, bytes):
        return value.isascii()
    if isinstance(value, dict):
        return all(map(is_text, value)) and all(map(is_text, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(is_text, value))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(constructors())
def test_random_constructors_come_back_or_are_refused(constructor):
    cls, args, kwargs, keeps = constructor
    instance = cls(*args, **kwargs)
    keeps = keeps and all(map(is_text, [args, kwargs]))
    names = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    names = [name for name in (*names, *BASES[cls.__base__]) if hasattr(instance, name)]
    names += [name for name in vars(instance) if name.startswith("_argument")]
    try:
        with keras.saving.custom_object_scope({cls.__name__: cls}):
            loaded = saved_and_loaded(instance)
    except ValueError:
        assert not keeps, "refused, although every argument is kept"
        return
    for name in names:
        assert shown(getattr(loaded, name)) == shown(getattr(instance, name)), name


MODEL_ARGUMENTS = {
    keras_gen.VAE: vae_parts,
    keras_gen.RegularizedAutoencoder: lambda: {
        "encoder": networks.mlp((4,), (2,), hidden=(2,)),
        "decoder": networks.mlp((2,), (4,), hidden=(2,)),
    },
    keras_gen.GAN: lambda: {
        "generator": networks.mlp((2,), (4,), hidden=(2,)),
        "discriminator": networks.mlp((4,), (1,), hidden=(2,)),
    },
}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.data())
def test_random_constructors_of_models_come_back_or_are_refused(data):
    base = data.draw(st.sampled_from(list(MODEL_ARGUMENTS)))
    BASES[base] = MODEL_ARGUMENTS[base]()
    try:
        cls, args, kwargs, keeps = data.draw(constructors(bases=(base,)))
    finally:
        given_to_base = BASES.pop(base)
    instance = cls(*args, **kwargs)
    keeps = keeps and is_text([value for value in args if not isinstance(value, keras.Layer)])
    keeps = keeps and is_text([v for v in kwargs.values() if not isinstance(v, keras.Layer)])
    try:
        with keras.saving.custom_object_scope({cls.__name__: cls}):
            loaded = saved_and_loaded(instance)
    except ValueError:
        assert not keeps, "refused, although every argument is kept"
        return
    names = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    names = ["seed", *(name for name in names if name in vars(instance))]
    names += [name for name in vars(instance) if name.startswith("_argument")]
    for name in names:
        assert shown(getattr(loaded, name)) == shown(getattr(instance, name)), name
    for name in given_to_base:
        found, expected = getattr(loaded, name), getattr(instance, name)
        assert type(found) is type(expected)
        assert [w.shape for w in found.weights] == [w.shape for w in expected.weights]


def test_a_checkpoint_of_version_0_1_0_lacks_the_new_keys():
    there = {"objective": {"config": {"cap": 5.0}}}
    here = {"objective": saved_config(CappedELBO(5.0))}
    assert first_difference(there, here) is None
    here["objective"]["config"]["cap"] = 6.0
    assert first_difference(there, here) == ("objective.config.cap", 5.0, 6.0)


def test_two_checkpoints_differ_in_the_new_keys():
    there, here = saved_config(CappedELBO()), saved_config(CappedELBO())
    assert first_difference(there, here) is None
    here["config"]["other attributes"]["num_samples"] = 2
    path, expected, received = first_difference(there, here)
    assert (path, expected, received) == ("config.other attributes.num_samples", 1, 2)


def saved_config(instance):
    return {"config": instance.get_config()}
