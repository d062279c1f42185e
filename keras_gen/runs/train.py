"""Run a training: load the data, build and train the model, and save everything in a folder."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import pathlib
import re
import resource
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_gen import data, serving
from keras_gen._files import PathLike
from keras_gen._serialization import constructor_arguments
from keras_gen._startup import use_one_thread_per_operation
from keras_gen.data.loading import UnbatchedExamples, find_examples
from keras_gen.evaluation.figures import are_images
from keras_gen.fitting import CheckpointError, Checkpoints
from keras_gen.fitting.multi_worker import without_strategy, worker_errors
from keras_gen.models import GenerativeModel
from keras_gen.runs import config_file, tables
from keras_gen.runs.callbacks import ImageSamples, MetricsFile, Summaries
from keras_gen.runs.environment import record_environment
from keras_gen.runs.folder import RunFolder
from keras_gen.runs.recipes import (
    RECIPES,
    RunConfig,
    build,
    build_for_table,
    image_defaults,
    kind_of,
)
from keras_gen.runs.report import write_report
from keras_gen.runs.strategies import (
    broadcast_from_chief,
    create_strategy,
    is_chief,
    wait_for_chief,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TIMED_STEPS = 20
_SAMPLED_ROWS = 1000  # number of rows in the file of samples of a table
_MAX_EXAMPLES = 10_000  # largest number of examples that `_some_examples` returns
_MAX_BYTES = 2**28  # largest size of these examples

_SET_BEFORE = ("data", "strategy", "seed", "deterministic", "name", "runs", "savedmodels")
_OF_IMAGES = (
    "data_dir",
    "image_size",
    "flip",
    "binarize",
    "skip_corrupt",
    "needs_labels",
)

SetDefaults = Callable[[Mapping[str, Any]], RunConfig]
"""Function from a dictionary `{field: default}` to a configuration with these defaults."""


class _Prepared(NamedTuple):
    """The compiled model and the data of a training.

    `config` has the defaults for these data. `note` is a text for the user about these defaults, or
    empty. `table` is None if the data are not a table.
    """

    config: RunConfig
    model: GenerativeModel
    train_data: tf.data.Dataset
    test_data: tf.data.Dataset
    table: data.Table | None = None
    note: str = ""


def train(config: RunConfig, set_defaults: SetDefaults | None = None) -> pathlib.Path:
    """Train the model that `config` describes, and save everything in a new folder.

    The folder contains `config.yaml`, `environment.yaml` (versions, devices, git commit),
    `metrics.csv`, `checkpoints/`, `model.keras` and `report.html`. If the data are images, the
    folder also contains `samples-*.png`. If the model can reconstruct images, the folder also
    contains `reconstructions-*.png`. If TensorBoard is installed, the folder also contains
    `tensorboard/`. If the names of the classes are known, the folder also contains `classes.json`.

    If the data are a table, the folder also contains generated rows in `samples.csv`. In this case,
    the threshold of the anomaly scores is calibrated on the test rows.

    The function also exports the trained model as a SavedModel. The SavedModel is the next version
    in the folder `config.savedmodels/config.name`.

    Args:
        config: The settings of the training, for instance `VAEConfig()`.
        set_defaults: Function from a dictionary `{field: default}` to a configuration with these
            defaults. It is called if the data are a table, and if they are images for which the
            kind of model has other defaults. The command line passes a function that keeps the
            flags of the user. If None (default), `config` is used as it is. To use other defaults,
            see `keras_gen.runs.for_images` and `keras_gen.runs.for_table`.

    Returns:
        Path of the folder of the run.

    Raises:
        ValueError: If the data or a setting is invalid. In this case, no file has been written.
        NonFiniteError: If the loss or a gradient becomes NaN or infinite.
        CheckpointError, OSError: If a file cannot be written. Then `resume` can continue the
            training.
        PublishError: If the SavedModel cannot be written or verified. The trained model is in the
            folder of the run, and `evaluate.export` can export it again.
    """
    _check_name(config)
    strategy = create_strategy(config.strategy)
    prepared = _prepare(config, strategy, set_defaults)
    config = prepared.config
    with worker_errors(strategy):
        folder = _create_folder(config, strategy)
        if prepared.table is not None and is_chief(strategy):
            print(f"{prepared.table}\n", flush=True)
        if prepared.note and is_chief(strategy):
            print(f"{prepared.note}\n", flush=True)
        with _locked_by_chief(folder, strategy, wait=True):
            _fit_and_save(prepared, folder, strategy)
    return folder.path


def resume(run: PathLike, config: RunConfig | None = None) -> pathlib.Path:
    """Resume an interrupted training run from its newest checkpoint.

    If the run has no checkpoint yet, the training starts from the beginning.

    Args:
        run: Folder of the training run, such as `runs/vae`.
        config: Settings that the run is expected to have, except `runs` and `name`. If None
            (default), the settings of the run are not checked.

    Returns:
        Path of the folder of the run.

    Raises:
        ValueError: If the folder contains no run, or if the run is finished. If another process is
            training the run. If the settings of the run differ from `config`. If the data are
            missing or invalid, or do not match the checkpoint.
        NonFiniteError, CheckpointError, PublishError, OSError: For the same reasons as in `train`.
    """
    folder = RunFolder(run)
    saved = folder.read_config()
    if config is not None:
        _check_same(saved, config, folder)
    strategy = create_strategy(saved.strategy)
    with worker_errors(strategy), _locked_by_chief(folder, strategy):
        if folder.is_finished:
            raise ValueError(
                f"Only an unfinished run can be resumed. Received: {folder.path}, which is "
                f"finished. {_call('evaluate.export', folder)} publishes the trained model."
            )
        _fit_and_save(_prepare(saved, strategy), folder, strategy)
    return folder.path


def _check_name(config: RunConfig) -> None:
    """Raise a `ValueError` if the name of a new run is invalid in a path, a URL or a command."""
    if _NAME.fullmatch(config.name):
        return
    raise ValueError(
        "`name` must consist of letters from a to z, digits, and the characters . _ -, and must "
        "start with a letter or a digit. It must have at most 100 characters. Received: "
        f"name={config.name!r}. The name is used for a folder, and for the model in the server."
    )


def _check_same(saved: RunConfig, config: RunConfig, folder: RunFolder) -> None:
    difference = config_file.first_difference(saved, config)
    if difference is not None:
        field, old, new = difference
        raise ValueError(
            f"`{field}` must be {old!r}, as in the configuration of {folder.path}. "
            f"Received: {new!r}. Omit `{field}` to resume the run, or start a new run."
        )


def describe(config: RunConfig, set_defaults: SetDefaults | None = None) -> str:
    """Return a text that describes a training before it starts. No file is written.

    The text contains the settings, the number of examples and the number of parameters. It also
    contains the main memory and the time that the training needs. To measure them, this function
    trains for a few steps. With `strategy="multiworker"`, it trains these steps on one device only.

    Args:
        config: The settings of the training, for instance `VAEConfig()`.
        set_defaults: Function that sets the defaults for the data, see `train`. Default: `config`
            is used as it is.

    Raises:
        ValueError: If the data or a setting is invalid.
    """
    _check_name(config)
    strategy = create_strategy("mirrored" if config.strategy == "mirrored" else "single")
    prepared = _prepare(config, strategy, set_defaults)
    config, model, train_data, test_data, table, note = prepared
    first, step = _time_steps(model, train_data)
    steps = len(train_data)
    total = config.epochs * steps
    lines = [
        config_file.to_yaml(config),
        *([f"{note}\n"] if note else []),
        *([] if table is None else [f"{table}\n"]),
        f"examples    {_count(train_data):,} to train with, {_count(test_data):,} to validate, "
        f"each {model.data_shape}",
        f"steps       {steps:,} per epoch, {total:,} in total",
    ]
    parameters = _count_parameters(model)
    for name, count in parameters.items():
        lines.append(f"parameters  {count:>12,} in {name}")
    lines += [
        f"parameters  {sum(parameters.values()):>12,} in total",
        f"memory      {_peak_memory() / 2**30:.2f} GiB of main memory at most, for TensorFlow, "
        "the data and the training",
        f"time        {1000 * step:.1f} ms per step (median of {_TIMED_STEPS}), the first step "
        f"{first:.1f} s",
        f"            {steps * step:.1f} s per epoch, {total * step / 60:.1f} min in total, "
        "without validation and images",
    ]
    return "\n".join(lines)


def _time_steps(model: GenerativeModel, train_data: tf.data.Dataset) -> tuple[float, float]:
    """Train a model for a few steps, and measure how long a step takes.

    Returns:
        The duration of the first step and the median duration of the later steps, in seconds.
    """
    times = [time.perf_counter()]
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: times.append(time.perf_counter())
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model of this training is not used
        model.fit(
            train_data.repeat(),
            steps_per_epoch=1 + _TIMED_STEPS,
            verbose=0,
            callbacks=[clock],
        )
    return times[1] - times[0], float(np.median(np.diff(times[1:])))


def _peak_memory() -> int:
    """Return the peak memory (resident set size) of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB


def _count(dataset: tf.data.Dataset) -> int:
    """Return the number of examples in a `tf.data.Dataset` of batches."""
    return sum(len(tf.nest.flatten(batch)[0]) for batch in dataset)


def _count_parameters(model: GenerativeModel) -> dict[str, int]:
    """Return a dictionary from the name of each network or layer of a model to its parameter count.

    An example is `{"encoder": 1000, "decoder": 2000}`.
    """
    counts = {}
    for name, part in constructor_arguments(model).items():
        if isinstance(part, keras.layers.Layer) and part.count_params():
            counts[name] = part.count_params()
    return counts


def load_data(config: RunConfig, labels: bool = False) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Load the training data and the test data of a training run.

    Args:
        config: The settings of a training run.
        labels: Whether to load labels even if the model does not need labels. For a table, no
            labels are loaded, and this argument is ignored. Default: False.

    Returns:
        `(train, test)`, two `tf.data.Dataset`. Each batch is `(examples, labels)` if labels are
        loaded, and `examples` if not.

    Raises:
        ValueError: If the data are missing or invalid, or if labels are needed but missing.
    """
    if tables.is_table(config):
        return tables.batches(tables.read_table(config), config)
    return _find_examples(config, labels).batches(config.batch_size)


def _find_examples(config: RunConfig, labels: bool = False) -> UnbatchedExamples:
    """Find the training and test examples of a training run whose data are not a table."""
    return find_examples(
        config.data,
        labels or config.needs_labels,
        config.data_dir,
        seed=config.seed,
        image_size=config.image_size,
        skip_corrupt=config.skip_corrupt,
        binarize=config.binarize,
        flip=config.flip,
    )


def _prepare(
    config: RunConfig, strategy: tf.distribute.Strategy, set_defaults: SetDefaults | None = None
) -> _Prepared:
    """Set the seeds, load the data, and build the model for the devices of the strategy."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if tables.is_table(config):
        table_defaults = RECIPES[kind_of(config)].table_defaults
        if set_defaults is not None and table_defaults:
            config = _changed(config, set_defaults(table_defaults), _SET_BEFORE)
        return _prepare_table(config, strategy)
    examples = _find_examples(config)
    shape = examples.shape
    note = ""
    if set_defaults is not None:
        steps_per_epoch = math.ceil(int(examples.train.cardinality()) / config.batch_size)
        defaults = image_defaults(config, shape, steps_per_epoch)
        if defaults:
            config = _changed(config, set_defaults(defaults), (*_SET_BEFORE, *_OF_IMAGES))
            note = _note_on_defaults(config, defaults, shape)
    train_data, test_data = examples.batches(config.batch_size)
    steps = config.epochs * len(train_data)
    num_classes = _num_classes(config, train_data, test_data) if config.needs_labels else None
    with strategy.scope():
        model = build(config, shape, steps, num_classes)
    _early_stopping(config, model)  # checks `patience` before any file is written
    return _Prepared(config, model, train_data, test_data, note=note)


def _changed(old: RunConfig, new: RunConfig, unchanged: Sequence[str]) -> RunConfig:
    """Return `new`, or raise a `ValueError` if a field differs that is used before this call."""
    for name in unchanged:
        if getattr(new, name) != getattr(old, name):
            raise ValueError(
                f"`{name}` must have the same default for all data, because it is needed before "
                f"the data are known. Received: {name}={getattr(new, name)!r} in the defaults of "
                f"the recipe {kind_of(old)!r} for these data. Remove it from the recipe."
            )
    return new


def _note_on_defaults(
    config: RunConfig, defaults: Mapping[str, Any], data_shape: tuple[int, ...]
) -> str:
    """Return a text that names each default for these images that the settings contain.

    The text is empty if all of them are also the defaults for small images in grey.
    """
    usual = type(config)()
    values = {
        name: value
        for name, value in defaults.items()
        if getattr(config, name) == value != getattr(usual, name)
    }
    if not values:
        return ""
    size = "×".join(map(str, data_shape))
    flags = shlex.join(config_file.as_arguments(values))
    return f"Defaults for images of {size}: `{flags}`. To change a default, pass its flag."


def _prepare_table(config: RunConfig, strategy: tf.distribute.Strategy) -> _Prepared:
    """Read the table of a run, and build the model for the devices of the strategy."""
    table = tables.read_table(config)
    if _has_small_networks(config, table.columns):
        use_one_thread_per_operation()
    train_data, test_data = tables.batches(table, config)
    with strategy.scope():
        model = build_for_table(config, table.columns, config.epochs * len(train_data))
    _early_stopping(config, model)
    return _Prepared(config, model, train_data, test_data, table)


def _has_small_networks(config: RunConfig, columns: Sequence[data.Column]) -> bool:
    """Return whether the dense networks of a run are faster with one thread per operation.

    On two cores, this is so if each matrix multiplication needs at most about 40 million
    multiplications of numbers.

    Args:
        config: Settings of the run. Its field `hidden` contains the widths of the hidden layers.
        columns: Columns of the table. The encoder has one input per number and per category.
    """
    hidden = max(getattr(config, "hidden", ()), default=0)
    inputs = sum(max(1, len(column.categories)) for column in columns)
    return hidden > 0 and config.batch_size * hidden * max(hidden, inputs) <= 40_000_000


def _num_classes(config: RunConfig, train_data: tf.data.Dataset, test_data: tf.data.Dataset) -> int:
    """Return the number of classes of the data.

    If the data set does not state this number, the function returns 1 plus the largest label.
    """
    known = data.number_of_classes(config.data, config.data_dir)
    if known is not None:
        return known
    largest = 0
    for split in (train_data, test_data):
        for _, labels in split:
            largest = max(largest, int(tf.reduce_max(labels)))
    return 1 + largest


def _create_folder(config: RunConfig, strategy: tf.distribute.Strategy) -> RunFolder:
    """Create the folder of a new run. With several workers, all workers use the same path.

    If a worker does not share the disk of the chief (worker 0), it creates the folder on its own
    disk.
    """
    number = 0
    if is_chief(strategy):
        _, number = RunFolder.create(config)
    folder = RunFolder.numbered(config, broadcast_from_chief(strategy, number))
    if not folder.config_file.exists():  # this worker has another disk than the chief
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_config(config)
    return folder


def _locked_by_chief(
    folder: RunFolder, strategy: tf.distribute.Strategy, wait: bool = False
) -> contextlib.AbstractContextManager[None]:
    """Lock the folder of the run against other processes during a `with` block.

    In multi-worker training, only the chief (worker 0) takes the lock.
    """
    return folder.lock(wait) if is_chief(strategy) else contextlib.nullcontext()


def _fit_and_save(prepared: _Prepared, folder: RunFolder, strategy: tf.distribute.Strategy) -> None:
    """Train, save and publish the model. Training resumes from the newest checkpoint, if any."""
    config, model, train_data, test_data, table, _ = prepared
    after_fit = _after_fit(config)
    chief = is_chief(strategy)
    if chief:
        record_environment(folder.environment_file)
        names = data.class_names(config.data, config.data_dir)
        if names is not None and not folder.classes_file.is_file():
            folder.write_classes(names)
    with _hint_to_resume(folder):
        model.fit(
            train_data,
            validation_data=test_data,
            epochs=config.epochs,
            callbacks=_callbacks(prepared, folder, chief),
            verbose=_verbosity(chief),
        )
    try:
        if chief:
            with _hint_to_resume(folder):
                model = without_strategy(model)
                if after_fit is not None:
                    after_fit(model, train_data)
                if table is not None:
                    _finish_table(model, table, folder)
                folder.save_model(model)
                write_report(folder)
            _publish(config, folder)
    finally:  # also if the chief fails: the training of the other workers is complete
        wait_for_chief(strategy)


def _finish_table(model: Any, table: data.Table, folder: RunFolder) -> None:
    """Compute the anomaly threshold from the test rows, and write generated rows to a .csv file."""
    model.calibrate(table.test)
    rows = table.to_frame(model.generate(_SAMPLED_ROWS, seed=model.seed))
    tables.write_frame(folder.samples_file(suffix=".csv"), rows)


def _verbosity(chief: bool) -> Any:
    """Return the argument `verbose` of `fit`. Only the chief (worker 0) prints the progress."""
    if not chief:
        return 0
    return "auto" if sys.stdout.isatty() else 2


def _callbacks(
    prepared: _Prepared, folder: RunFolder, chief: bool
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of `fit`."""
    callbacks = _early_stopping(prepared.config, prepared.model)
    if chief:
        callbacks += _recording_callbacks(prepared, folder)
    callbacks.append(Checkpoints(folder.checkpoints, prepared.config.checkpoint_every))
    return callbacks


def _early_stopping(config: RunConfig, model: GenerativeModel) -> list[keras.callbacks.Callback]:
    """Return a list with the callback for early stopping.

    If `config` has no field `patience`, or if its value is None, the list is empty.

    Raises:
        ValueError: If `patience` is given, but the attribute `monitor` of the model is None.
    """
    patience = getattr(config, "patience", None)
    if patience is None:
        return []
    if model.monitor is None:
        raise ValueError(
            "`patience` needs a model whose `monitor` names a logged value. Received: "
            f"patience={patience!r} for a {type(model).__name__}, whose `monitor` is None. Omit "
            "`patience`, or set `monitor` in the model class."
        )
    monitor, mode = model.monitor
    return [
        keras.callbacks.EarlyStopping(
            monitor, patience=patience, mode=mode, restore_best_weights=True
        )
    ]


def _recording_callbacks(prepared: _Prepared, folder: RunFolder) -> list[keras.callbacks.Callback]:
    """Return the callbacks that write metrics, images and TensorBoard summaries."""
    config = prepared.config
    examples = next(prepared.test_data.unbatch().batch(500).as_numpy_iterator())
    callbacks: list[keras.callbacks.Callback] = [MetricsFile(folder.metrics_file)]
    if are_images(tf.nest.flatten(examples)[0]):
        images = tf.nest.map_structure(lambda values: values[:50], examples)
        before_sampling = _before_sampling(config, prepared.train_data)
        callbacks.append(ImageSamples(folder, images, before_sampling, config.images_every))
    if importlib.util.find_spec("tensorboard"):
        callbacks.append(Summaries(folder.tensorboard, examples, config.images_every))
    return callbacks


def _before_sampling(
    config: RunConfig, train_data: tf.data.Dataset
) -> Callable[[GenerativeModel], None] | None:
    """Return a function that prepares a trained model for the generation of samples.

    For instance, the function fits a density to the latents of an autoencoder. If the model needs
    no preparation, the result is None.
    """
    after_fit = _after_fit(config)
    if after_fit is None:
        return None
    x = _some_examples(train_data)
    return lambda model: after_fit(model, x)


def _after_fit(config: RunConfig) -> Callable[[Any, Any], None] | None:
    """Return the function that prepares a trained model for generation, or None.

    For instance, the function fits a density to the latents of the model. The result is None if the
    kind of model or the settings of the run need no preparation.
    """
    return RECIPES[kind_of(config)].after_fit if config.needs_after_fit else None


def _some_examples(dataset: tf.data.Dataset) -> np.ndarray:
    """Return the first examples of a dataset of batches, at most 10,000 examples and 256 MiB.

    Call this function before the training. Each pass over a shuffled dataset changes the order of
    its next pass. Therefore a pass between two epochs would change the training.
    """
    x = tf.nest.flatten(dataset.element_spec)[0]
    count = min(_MAX_EXAMPLES, _MAX_BYTES // (4 * x.shape[1:].num_elements()))
    examples = dataset.map(lambda x, *_: x).unbatch().batch(count)
    return next(examples.as_numpy_iterator())


@contextlib.contextmanager
def _hint_to_resume(folder: RunFolder) -> Iterator[None]:
    """Add a note to some errors in the `with` block. The note says how to resume the run.

    An interruption, an `OSError` and a `CheckpointError` get this note. Other errors get no note.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, OSError, CheckpointError) as error:
        error.add_note(f"{_call('train.resume', folder)} continues the training.")
        raise


def _publish(config: RunConfig, folder: RunFolder) -> None:
    base = config.savedmodels / config.name
    try:
        model = folder.load_model()
        names = folder.read_classes()
        version = serving.publish(model, base, card=folder.training_card(), class_names=names)
    except serving.PublishError as error:
        raise serving.PublishError(
            f"{error} The model is trained and saved. {_call('evaluate.export', folder)} publishes "
            "the model."
        ) from error
    print(f"\nThe run is in {folder.path}, the SavedModel in {version}.")


def _call(function: str, folder: RunFolder) -> str:
    """Return Python code that calls a function of `keras_gen.runs`, for a message to the user.

    An example is `keras_gen.runs.train.resume('runs/vae')`. If the command line `keras-gen` prints
    the message, it prints a command, such as `keras-gen train --resume runs/vae`, in place of the
    Python code.

    Args:
        function: Module and name of the function, such as `"train.resume"`.
        folder: Folder of the run. Its path is the argument of the call.
    """
    return f"`keras_gen.runs.{function}({str(folder.path)!r})`"
