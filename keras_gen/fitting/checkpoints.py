"""Training that goes on where it was stopped: the state of `fit` in a folder, to the last bit."""

import contextlib
import json
import pathlib
import signal
import threading
import types
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._files import (
    UNFINISHED,
    PathLike,
    atomic_write,
    damaged_files,
    remove,
    write_checksums,
)
from keras_gen._serialization import Serializable, constructor_arguments
from keras_gen.fitting.errors import NonFiniteError
from keras_gen.fitting.multi_worker import common_numbers, several_workers, worker_index

if TYPE_CHECKING:
    from keras_gen.models.base import GenerativeModel

CHECKSUMS = "SHA256SUMS"
_DAMAGED = "damaged-"
_COUNTERS = (
    "best",
    "best_epoch",
    "best_weights",
    "cooldown_counter",
    "stopped_epoch",
    "wait",
)  # of Keras's callbacks
_WITHOUT_EFFECT = ("run_eagerly", "steps_per_execution")  # on the numbers


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or found; those before it are as they were."""


class Checkpoints(keras.callbacks.Callback):
    """Keeps the state of `fit` in a folder; the same `fit` with the same folder goes on from there, to the last bit.

    A checkpoint has weights, moving statistics, the state of all optimizers and Keras layers, the seed and the step of all
    schedules, the running means of a half epoch, the history, and the counters of `EarlyStopping` and `ReduceLROnPlateau`. It is
    written at the end of each epoch, and when SIGTERM or SIGINT (Ctrl-C) arrive: they stop the training at the end of the step, with
    exit code 143 and as KeyboardInterrupt. A second one stops at once.

    A checkpoint gets its name once it is whole and on the disk, and is compared with its checksums before it is used; one that is
    damaged is renamed, with a warning, and the one before is used.

    The order of the data goes on too: of arrays; of a `tf.data.Dataset` whose `shuffle` has a seed, if nothing else reads it between
    epochs; of a generator with `steps_per_epoch`. Steps that were done before pass as empty ones, for the data's and the progress
    bar's sake.

    Of several workers, each has checkpoints of its own, in `folder/worker-<number>`, and all go on from the newest that all have; a
    signal stops a worker without another checkpoint, and with it the others.

    Args:
        folder: Where the checkpoints are. Each training has one of its own.
        every: Training steps between two checkpoints; None for the ends of epochs alone.
        keep: How many of the newest to keep.

    Raises:
        ValueError: By `fit`, if the model, its optimizer or the data differ from those of the checkpoint, with the name of what
            differs.
        CheckpointError: By `fit`, if a checkpoint cannot be written, on a full disk for instance, or all are damaged.

    Example:

    >>> import tempfile
    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> folder = tempfile.mkdtemp()
    >>> def train(epochs):
    ...     autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,), hidden=(3,)), networks.mlp((2,), (4,), hidden=(3,)))
    ...     autoencoder.compile("adam", loss="mse")
    ...     return autoencoder.fit(np.eye(4), epochs=epochs, verbose=0, callbacks=[Checkpoints(folder)])
    >>> _ = train(epochs=2)
    >>> train(epochs=3).epoch  # of which only the last is trained here
    [0, 1, 2]
    """

    def __init__(self, folder: PathLike, every: int | None = None, keep: int = 2) -> None:
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.several_workers = False
        self.every = None if every is None else positive_int(self, "every", every)
        self.keep = positive_int(self, "keep", keep)
        self.signal: int | None = None

    # === What `fit` calls ===

    @contextlib.contextmanager
    def around(
        self, model: "GenerativeModel", arguments: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """The arguments for `keras.Model.fit` that go on from the newest checkpoint; signals are heeded until it returns.

        Args:
            model: A keras_gen model.
            arguments: Those that `fit` was given, by name.
        """
        self.variables = _unique(
            [*model.variables, *model.optimizer.variables]
        )  # not those that callbacks add later
        self.settings = _settings(model)
        strategy = model.distribute_strategy
        self.several_workers = several_workers(strategy)
        if self.several_workers and not self.folder.name.startswith("worker-"):
            self.folder /= f"worker-{worker_index(strategy)}"
        self.state, self.values = self._read(self._newest(strategy))
        self.signal = self.means_of_epoch = None
        callbacks = arguments["callbacks"]
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = callbacks.callbacks
        self.others = [callback for callback in callbacks if callback is not self]
        if not any(isinstance(callback, keras.callbacks.History) for callback in self.others):
            self.others.append(keras.callbacks.History())
        callbacks[:] = [
            *self.others,
            self,
        ]  # the last, so that it keeps what the others have counted
        if self.state:
            model.seed = self.state["seed"]
            arguments["initial_epoch"] = (
                arguments["epochs"] if self.state["stopped"] else self.state["epoch"]
            )
        with self._heeding_signals():
            try:
                yield _in_order(arguments, self.state["epoch"] if self.state else 0, model.seed)
            except NonFiniteError as error:
                kept = self._all()
                raise NonFiniteError(
                    f"{error} {f'The last checkpoint is {kept[-1]}.' if kept else 'There is no checkpoint yet.'}"
                ) from None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restore the variables and the counters of the other callbacks."""
        self.steps_done = self.state["step"] if self.state else 0
        self.since = self.steps_to_pass = 0
        if not self.state:
            return
        if self.state["steps"] not in (None, self.params["steps"]):
            raise ValueError(
                self._difference(
                    "number of steps an epoch", self.state["steps"], self.params["steps"]
                )
            )
        for variable, value in zip(
            self.variables, self.values, strict=False
        ):  # after Keras tried out a step to build metrics
            variable.assign(value)
        arrays = self.values[self.state["variables"] + self.state["means"] :]
        others = _by_name(self.others)
        for callback, counters in self.state["callbacks"].items():
            if counters.get("best_weights"):
                count = counters["best_weights"]
                counters["best_weights"], arrays = (
                    [array.numpy() for array in arrays[:count]],
                    arrays[count:],
                )
            for name, value in counters.items():
                if callback in others:
                    setattr(others[callback], name, value)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin to count the steps of the epoch, in a half one with its running means."""
        self.epoch = epoch
        self.means_of_epoch = None
        if self.steps_done:
            self._pass_over(self.steps_done)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a checkpoint if it is time, or a signal came."""
        if self.passing:
            self._stop_if_asked(write=False)
            return
        done = min(
            batch + 1, self.params["steps"] or batch + 1
        )  # the last of several steps an execution may be fewer
        self.since += done - self.steps_done
        self.steps_done = done
        if self.every and self.since >= self.every:
            self._write(self.epoch, self.steps_done)
        self._stop_if_asked()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the running means of the training, which validation uses for its own."""
        self.means_of_epoch = self._means()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Heed a signal during validation."""
        self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the checkpoint of the epoch."""
        self.epoch, self.steps_done = epoch + 1, 0
        self._write(self.epoch, 0)
        self._stop_if_asked(write=False)

    # === Files ===

    def _all(self):
        """The checkpoints, the oldest first."""
        return sorted(folder for folder in self.folder.glob("epoch-*") if folder.is_dir())

    def _newest(self, strategy):
        """The newest checkpoint that is whole, and that all workers have; None if there is none at all."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(
                f"Expected `folder` of Checkpoints as a folder. Received: {self.folder}, which is a file."
            )
        for left_over in self.folder.glob(f"{UNFINISHED}*"):
            remove(left_over)
        if not self.several_workers:
            return next(self._undamaged(), None)
        mine = {
            int("".join(filter(str.isdigit, folder.name))): folder for folder in self._undamaged()
        }
        of_all = common_numbers(strategy, mine, self.keep)
        if mine and not of_all:
            raise CheckpointError(
                f"No checkpoint in {self.folder} is one that all workers have. Remove the folders of all of them to train anew."
            )
        for number, folder in mine.items():
            if number > max(of_all):
                remove(folder)
        return mine[max(of_all)] if of_all else None

    def _undamaged(self):
        """The checkpoints that are as they were written, the newest first; others are renamed."""
        found = self._all()
        whole_ones = 0
        for folder in reversed(found):
            problems = damaged_files(folder, CHECKSUMS)
            if not problems:
                whole_ones += 1
                yield folder
                continue
            aside = folder.with_name(f"{_DAMAGED}{folder.name}")
            remove(aside)
            folder.rename(aside)
            warnings.warn(
                f"The checkpoint {folder} is damaged and now called {aside.name}: {problems[0]}",
                stacklevel=7,
            )
        if found and not whole_ones:
            raise CheckpointError(
                f"Each checkpoint in {self.folder} is damaged; they are now called {_DAMAGED}…. Remove the folder to train anew."
            )

    def _read(self, folder):
        """State and values of a checkpoint; `(None, [])` without one."""
        if folder is None:
            return None, []
        state = json.loads((folder / "state.json").read_text())
        self._check(state)
        types_ = [tf.as_dtype(dtype) for dtype in state["dtypes"]]
        names = [str(number) for number in range(len(types_))]
        return state, tf.raw_ops.RestoreV2(
            prefix=str(folder / "state"),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            dtypes=types_,
        )

    def _check(self, state):
        """Compare model, optimizer and variables with those of a checkpoint."""
        different = _first_difference(state["settings"], self.settings)
        if different:
            raise ValueError(self._difference(*different))
        here = [[list(variable.shape), variable.dtype] for variable in self.variables]
        there = [list(pair) for pair in zip(state["shapes"], state["dtypes"], strict=True)][
            : state["variables"]
        ]
        for variable, mine, theirs in zip(self.variables, here, there, strict=False):
            if mine != theirs:
                raise ValueError(self._difference(f"shape of {variable.path}", theirs, mine))
        if len(here) != len(there):
            raise ValueError(self._difference("number of variables", len(there), len(here)))

    def _difference(self, what, there, here):
        return (
            f"Expected the training that {self.folder} is of. Received: another {what}, {here!r} in the place of {there!r}. Go on as "
            "it was, or give the new training a folder of its own."
        )

    def _write(self, epoch, step):
        folder = self.folder / f"epoch-{epoch:06d}-step-{step:09d}"
        self.since = 0
        if folder.exists():  # gone on from here, and stopped at once
            return
        means = self._means() if self.means_of_epoch is None else self.means_of_epoch
        values = [*map(tf.convert_to_tensor, self.variables), *means]
        counters = {}
        for name, callback in _by_name(self.others).items():
            present = {
                counter: getattr(callback, counter)
                for counter in _COUNTERS
                if hasattr(callback, counter)
            }
            if isinstance(callback, keras.callbacks.History):
                present = {"epoch": callback.epoch, "history": callback.history}
            if present.get("best_weights") is not None:
                values += map(tf.convert_to_tensor, present["best_weights"])
                present["best_weights"] = len(present["best_weights"])
            if present:
                counters[name] = present
        state = {
            "epoch": epoch,
            "step": step,
            "steps": self.params["steps"],
            "stopped": bool(self.model.stop_training),
            "seed": self.model.seed,
            "settings": self.settings,
            "callbacks": counters,
            "variables": len(self.variables),
            "means": len(means),
            "shapes": [value.shape.as_list() for value in values],
            "dtypes": [value.dtype.name for value in values],
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(folder) as unfinished:
                unfinished.mkdir()
                names = [str(number) for number in range(len(values))]
                tf.raw_ops.SaveV2(
                    prefix=str(unfinished / "state"),
                    tensor_names=names,
                    shape_and_slices=[""] * len(names),
                    tensors=values,
                )
                (unfinished / "state.json").write_text(json.dumps(state, default=float))
                write_checksums(unfinished, CHECKSUMS)
        except (OSError, tf.errors.OpError) as error:
            kept = self._all()
            raise CheckpointError(
                f"The checkpoint {folder} could not be written: {error}. Is the disk full? "
                f"{f'The one before, {kept[-1]}, is whole.' if kept else 'There is none before it.'}"
            ) from error
        for old in self._all()[: -self.keep]:
            remove(old)

    # === Steps and signals ===

    @property
    def passing(self) -> bool:
        """Whether steps are passed over that were done before."""
        return self.steps_to_pass > 0

    def _means(self):
        return [
            tf.convert_to_tensor(variable) for variable in _unique(self.model.metrics_variables)
        ]

    def _pass_over(self, steps):
        """Let the next steps of `fit` do nothing but take their batches, and restore the running means after them."""
        train, self.steps_to_pass = self.model.train_function, steps
        means = self.values[self.state["variables"] :][: self.state["means"]]

        def take(iterator):
            for _ in range(min(self.model.steps_per_execution, self.steps_to_pass)):
                batch = next(iterator)
                self.steps_to_pass -= 1
            if self.passing:
                return {}
            if len(_unique(self.model.metrics_variables)) < len(
                means
            ):  # of compiled metrics, which the first step builds
                self.model.distribute_strategy.run(self.model.test_step, (batch,))
            for variable, value in zip(_unique(self.model.metrics_variables), means, strict=True):
                variable.assign(value)
            self.model.train_function = train
            return self.model.get_metrics_result()

        self.model.train_function = take

    def _stop_if_asked(self, write=True):
        if self.signal is None:
            return
        if write and not self.several_workers:  # who would have to write together
            self._write(self.epoch, self.steps_done)
        kept = self._all()
        said = f"Stopped by {signal.Signals(self.signal).name}. " + (
            f"The state is in {kept[-1]}: the same `fit` goes on from there."
            if kept
            else "There is no checkpoint yet."
        )
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt(said)
        print(f"\n{said}")
        raise SystemExit(128 + self.signal)

    @contextlib.contextmanager
    def _heeding_signals(self):
        """Note SIGTERM and SIGINT for the end of the step; a second one does what it did before."""
        if (
            threading.current_thread() is not threading.main_thread()
        ):  # where Python allows no handlers
            yield
            return

        def heed(number, frame):
            self.signal = number
            signal.signal(number, before[number])

        before = {
            number: signal.getsignal(number) or signal.SIG_DFL
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        for number in before:
            signal.signal(number, heed)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _in_order(arguments, epoch, seed):
    """The arguments of `fit` with data whose order from `epoch` on is that of a training that came there by itself."""
    x, steps = arguments["x"], arguments.get("steps_per_epoch")
    if hasattr(x, "__array__") and arguments["shuffle"]:
        arguments = _as_dataset(arguments, seed)
        x = arguments["x"]
    if isinstance(x, tf.data.Dataset) and steps:
        return {**arguments, "x": x.skip(epoch * steps)}
    if isinstance(x, tf.data.Dataset):
        for _ in range(epoch):
            iter(x)  # draws the seeds of an epoch
        # Keras makes more iterators than it reads; behind `flat_map` only one that is read draws seeds, and options stay behind it
        lazily = tf.data.Dataset.range(1).flat_map(lambda _: x).with_options(x.options())
        return {
            **arguments,
            "x": lazily.apply(tf.data.experimental.assert_cardinality(x.cardinality())),
        }
    if isinstance(x, types.GeneratorType) and steps:
        for _ in range(epoch * steps):
            next(x)
    return arguments


def _as_dataset(arguments, seed):
    """The arguments of `fit` with a shuffled `tf.data.Dataset` in the place of arrays, cut as `validation_split` says."""
    examples: list[Any] = [
        None if part is None else np.asarray(part)
        for part in (arguments[name] for name in ("x", "y", "sample_weight"))
    ]
    count, batch_size = len(examples[0]), arguments["batch_size"] or 32
    changed: dict[str, Any] = {
        "y": None,
        "sample_weight": None,
        "batch_size": None,
        "shuffle": False,
        "validation_split": 0.0,
    }
    changed["validation_batch_size"] = arguments.get("validation_batch_size") or batch_size
    if arguments["validation_split"] and arguments["validation_data"] is None:
        cut = int(count * (1 - arguments["validation_split"]))
        changed["validation_data"] = tuple(
            part[cut:] if part is not None else None for part in examples
        )
        examples, count = [part[:cut] if part is not None else None for part in examples], cut
    dataset = tf.data.Dataset.from_tensor_slices(keras.utils.pack_x_y_sample_weight(*examples))
    options = tf.data.Options()
    options.autotune.enabled = False  # as in `data.load`: the tuner held epochs back for seconds
    dataset = dataset.shuffle(count, seed=seed).batch(batch_size).prefetch(2).with_options(options)
    if arguments.get("steps_per_epoch"):
        dataset = dataset.repeat()
    return {**arguments, **changed, "x": dataset}


def _settings(model):
    """What makes a training another one: families and seed of the model, optimizer, objective and losses."""
    compiled = {
        name: value
        for name, value in model.get_compile_config().items()
        if name not in _WITHOUT_EFFECT
    }
    parts = {}
    for name, value in constructor_arguments(model).items():
        if isinstance(value, Serializable) or (name == "seed" and not model.seed_was_drawn):
            parts[name] = repr(value)
        elif isinstance(value, keras.layers.Layer):
            parts[name] = type(value).__name__
    settings = {
        "model": type(model).__name__,
        **parts,
        **compiled,
        "policy": keras.config.dtype_policy().name,
    }
    return json.loads(json.dumps(settings, default=repr))


def _first_difference(there, here, path=""):
    """`(path, value there, value here)` of the first difference between two structures of JSON; None if they are equal."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here} - {"name"}):  # Keras numbers the names of a process
            found = _first_difference(
                there.get(key), here.get(key), f"{path}.{key}" if path else key
            )
            if found:
                return found
        return None
    return None if there == here else (path, there, here)


def _by_name(callbacks):
    """The callbacks by their class and how many of it there are before."""
    named: dict[str, keras.callbacks.Callback] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        named[f"{kind} {sum(name.startswith(f'{kind} ') for name in named)}"] = callback
    return named


def _unique(variables):
    return list({id(variable): variable for variable in variables}.values())
