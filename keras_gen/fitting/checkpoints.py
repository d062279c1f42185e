"""A callback that saves checkpoints during `fit`, and continues training from a checkpoint."""

from __future__ import annotations

import contextlib
import json
import pathlib
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._compat import several_workers
from keras_gen._files import (
    UNFINISHED,
    PathLike,
    atomic_write,
    damaged_files,
    remove,
    write_checksums,
)
from keras_gen._serialization import EXACT, OTHER, Serializable, constructor_arguments
from keras_gen.distributions import Prior
from keras_gen.fitting.data_order import continue_order
from keras_gen.fitting.errors import NonFiniteError
from keras_gen.fitting.multi_worker import common_numbers, worker_index

CHECKSUMS = "SHA256SUMS"
_DAMAGED = "damaged-"
_CALLBACK_STATE = (  # attributes of Keras's callbacks
    "best",
    "best_epoch",
    "best_weights",
    "cooldown_counter",
    "stopped_epoch",
    "wait",
)
_WITHOUT_EFFECT = ("run_eagerly", "steps_per_execution")  # on the results of training


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or checkpoints exist but none of them can be used."""


class Checkpoints(keras.callbacks.Callback):
    """A Keras callback that saves the state of training, and resumes an interrupted training.

    To resume, call `fit` again with the same arguments and the same folder. The argument `epochs`
    may be larger than before. If a callback such as `EarlyStopping` has stopped the training, a new
    call of `fit` trains no further epochs. On the same machine, with the same software versions and
    with deterministic operations, a resumed training and an uninterrupted training are bit-for-bit
    identical.

    A checkpoint contains the variables of the model, of its layers and of its optimizers. It also
    contains the seed, the step counter and the training history. In addition, it contains the
    running means of the metrics in an unfinished epoch, and the state of the callbacks
    `EarlyStopping` and `ReduceLROnPlateau`.

    `fit` writes a checkpoint at the end of each epoch. If only one worker trains, `fit` also writes
    a checkpoint when the process receives the signal SIGTERM or SIGINT. Ctrl-C sends SIGINT. After
    such a signal, training stops at the end of the current step. SIGTERM then ends the process with
    exit code 143, and SIGINT raises a KeyboardInterrupt. A second signal of the same kind stops
    `fit` at once.

    Each checkpoint is written to a temporary folder, flushed to disk, and then renamed. `fit`
    verifies the checksums of a checkpoint before it uses the checkpoint. If a checkpoint is
    damaged, `fit` renames this checkpoint with a warning, and uses the previous checkpoint.

    A resumed `fit` reads arrays in the same order as an uninterrupted `fit`. A generator is read in
    the same order if `steps_per_epoch` is given. A shuffled `tf.data.Dataset` is read in the same
    order under two conditions: its `shuffle` has a seed, and no other code reads the data set
    between epochs. A checkpoint can be from the middle of an epoch. Then a resumed `fit` reads the
    batches of the finished steps again, but does not train on these batches.

    With several workers, each worker writes checkpoints to `folder/worker-<index>`. All workers
    continue from the newest checkpoint that every worker has. A signal to one worker stops all
    workers.

    Args:
        folder: Folder of the checkpoints. Each training needs its own folder.
        every: If given, `fit` also writes a checkpoint within an epoch, when this number of
            training steps has passed since the last checkpoint. Default: None.
        keep: Number of checkpoints to keep. Older checkpoints are removed. Default: 2.

    Raises:
        ValueError: If the model, the optimizer or the number of steps per epoch is not the same as
            in the checkpoint. `fit` raises this error, and the message names the difference.
        CheckpointError: If a checkpoint cannot be written, for instance on a full disk, or if
            checkpoints exist but none of them can be used. `fit` raises this error.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from keras_gen import RegularizedAutoencoder, networks
        >>> folder = tempfile.mkdtemp()
        >>> def train(epochs):
        ...     encoder = networks.mlp((4,), (2,), hidden=(3,))
        ...     decoder = networks.mlp((2,), (4,), hidden=(3,))
        ...     autoencoder = RegularizedAutoencoder(encoder, decoder)
        ...     autoencoder.compile("adam", loss="mse")
        ...     checkpoints = Checkpoints(folder)
        ...     return autoencoder.fit(np.eye(4), epochs=epochs, verbose=0, callbacks=[checkpoints])
        >>> _ = train(epochs=2)
        >>> train(epochs=3).epoch  # only the last epoch is trained here
        [0, 1, 2]
    """

    def __init__(self, folder: PathLike, every: int | None = None, keep: int = 2) -> None:
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.every = None if every is None else positive_int(self, "every", every)
        self.keep = positive_int(self, "keep", keep)
        self.signal: int | None = None

    # === Methods that `fit` calls ===

    @contextlib.contextmanager
    def around(self, model: keras.Model, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Let the training inside the `with` block continue from the newest checkpoint.

        If there is no checkpoint, the training starts from the beginning. Within the block, SIGTERM
        and SIGINT stop the training, as the docstring of the class says.

        Args:
            model: A keras_gen model.
            arguments: The arguments of `fit` by name.

        Yields:
            The arguments for `keras.Model.fit`. They are changed so that the training continues
            from the checkpoint.

        Raises:
            ValueError: If the checkpoint does not match the training, or if the attribute `folder`
                is a file.
            CheckpointError: If checkpoints exist but none of them can be used.
            NonFiniteError: If the training raises this error. A sentence that names the last
                checkpoint is added to the message.
        """
        self.variables = _unique([*model.variables, *model.optimizer.variables])
        self.settings = _settings(model)
        strategy = model.distribute_strategy
        self.several_workers = several_workers(strategy)
        if self.several_workers and not self.folder.name.startswith("worker-"):
            self.folder /= f"worker-{worker_index(strategy)}"
        self.state, self.values = self._read(self._newest(strategy))
        self.signal = None
        self.means_of_epoch: list[tf.Tensor] | None = None
        callbacks = arguments["callbacks"]
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = callbacks.callbacks
        self.others = [callback for callback in callbacks if callback is not self]
        if not any(isinstance(callback, keras.callbacks.History) for callback in self.others):
            self.others.append(keras.callbacks.History())
        callbacks[:] = [*self.others, self]  # last, to save the final state of all others
        finished_epochs = 0
        if self.state:
            model.seed = self.state["seed"]
            finished_epochs = self.state["epoch"]
            stopped = self.state["stopped"]
            arguments["initial_epoch"] = arguments["epochs"] if stopped else finished_epochs
        with self._signal_handlers():
            try:
                yield continue_order(arguments, finished_epochs, model.seed)
            except NonFiniteError as error:
                raise NonFiniteError(f"{error} {self._last_checkpoint()}") from None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restore the variables and the state of the other callbacks from the checkpoint, if any.

        Raises:
            ValueError: If the number of steps per epoch is not the same as in the checkpoint.
        """
        self.steps_done = self.state["step"] if self.state else 0
        self.steps_since_write = 0
        self.steps_to_pass = 0
        if not self.state:
            return
        if self.state["steps"] not in (None, self.params["steps"]):
            raise ValueError(
                self._difference(
                    "number of steps per epoch", self.state["steps"], self.params["steps"]
                )
            )
        # not before: Keras may run a step to build the metrics, which changes the variables
        for variable, value in zip(self.variables, self.values, strict=False):
            variable.assign(value)
        arrays = self.values[self.state["variables"] + self.state["means"] :]
        others = _by_name(self.others)
        for name, attributes in self.state["callbacks"].items():
            if attributes.get("best_weights"):
                count = attributes["best_weights"]
                attributes["best_weights"] = list(arrays[:count])
                arrays = arrays[count:]
            if name in others:
                for attribute, value in attributes.items():
                    setattr(others[name], attribute, value)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start an epoch.

        A training can be resumed from a checkpoint in the middle of this epoch. Then the steps
        before the checkpoint read their batches, but do not train on them again.
        """
        self.epoch = epoch
        self.means_of_epoch = None
        if self.steps_done:
            self._pass_over(self.steps_done)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a checkpoint if the last checkpoint is at least `every` training steps old.

        `every` is an argument of the constructor. If `every` is None, this method writes no such
        checkpoint. If SIGTERM or SIGINT has arrived, the method also stops the training. If only
        one worker trains, it writes a checkpoint before it stops. If `fit` is skipping the steps
        before a checkpoint, the method writes no checkpoint.
        """
        if self.passing:
            self._stop_on_signal()
            return
        done = batch + 1
        if self.params["steps"]:  # the last call of the graph may run fewer steps
            done = min(done, self.params["steps"])
        self.steps_since_write += done - self.steps_done
        self.steps_done = done
        if self.every and self.steps_since_write >= self.every:
            self._write(self.epoch, self.steps_done)
        self._stop_on_signal()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Copy the running means of the training metrics, because validation overwrites them."""
        self.means_of_epoch = self._means()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop if SIGTERM or SIGINT arrived during validation.

        If only one worker trains, write a checkpoint first.
        """
        self._stop_on_signal()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a checkpoint at the end of the epoch, and stop if SIGTERM or SIGINT has arrived."""
        self.epoch = epoch + 1
        self.steps_done = 0
        self._write(self.epoch, 0)
        self._stop_on_signal()

    # === Files ===

    def _all(self) -> list[pathlib.Path]:
        """Return the folders of all checkpoints, the oldest first."""
        return sorted(folder for folder in self.folder.glob("epoch-*") if folder.is_dir())

    def _last_checkpoint(self) -> str:
        """Return a sentence that names the last checkpoint, or says that there is none yet."""
        kept = self._all()
        return f"The last checkpoint is {kept[-1]}." if kept else "There is no checkpoint yet."

    def _newest(self, strategy: tf.distribute.Strategy) -> pathlib.Path | None:
        """Return the newest undamaged checkpoint, or None if there are no checkpoints.

        First, the method removes checkpoints whose writing was interrupted. In multi-worker
        training, it returns the newest checkpoint that is undamaged on all workers. It then also
        removes the newer checkpoints of this worker, because not all workers can load them.

        Args:
            strategy: The `tf.distribute` strategy of the training.

        Raises:
            ValueError: If the attribute `folder` is a file.
            CheckpointError: If there are checkpoints, and all of them are damaged. In multi-worker
                training, also if this worker has undamaged checkpoints, but there is none that all
                workers have.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(
                "`folder` of Checkpoints must be a folder. "
                f"Received: {self.folder}, which is a file."
            )
        for unfinished in self.folder.glob(f"{UNFINISHED}*"):
            remove(unfinished)
        if not self.several_workers:
            return next(self._undamaged(), None)
        own = {_number(folder): folder for folder in self._undamaged()}
        common = common_numbers(strategy, own, self.keep)
        if own and not common:
            raise CheckpointError(
                f"Expected a checkpoint that all workers have. Received: none in {self.folder}. "
                "Remove the checkpoints of all workers to train from the start."
            )
        for number, folder in own.items():
            if number > max(common):
                remove(folder)
        return own[max(common)] if common else None

    def _undamaged(self) -> Iterator[pathlib.Path]:
        """Yield the undamaged checkpoints, the newest first, and rename damaged checkpoints.

        The method checks a checkpoint only when the caller asks for it. Therefore damaged
        checkpoints that are older than the last one that the caller read keep their names.

        Raises:
            CheckpointError: If there are checkpoints, and all of them are damaged.
        """
        found = self._all()
        intact = False
        for folder in reversed(found):
            problems = damaged_files(folder, CHECKSUMS)
            if not problems:
                intact = True
                yield folder
                continue
            aside = folder.with_name(f"{_DAMAGED}{folder.name}")
            remove(aside)
            folder.rename(aside)
            warnings.warn(
                f"The checkpoint {folder} is damaged and was renamed to {aside.name}, because "
                f"{problems[0]}",
                stacklevel=7,
            )
        if found and not intact:
            raise CheckpointError(
                f"All checkpoints in {self.folder} are damaged. They were renamed, and their new "
                f"names start with {_DAMAGED!r}. Remove the folder to train from the start."
            )

    def _read(self, folder: pathlib.Path | None) -> tuple[dict[str, Any] | None, Sequence[Any]]:
        """Read a checkpoint. Return `(state, values)`, or `(None, [])` if `folder` is None.

        `state` is the content of `state.json`, and `values` contains the saved arrays.
        """
        if folder is None:
            return None, []
        state = json.loads((folder / "state.json").read_text("utf-8"))
        self._check(state)
        return state, _read_values(folder / "state", len(state["shapes"]))

    def _check(self, state: dict[str, Any]) -> None:
        """Raise a `ValueError` if a checkpoint does not match the current training.

        The settings of the two trainings must be equal. Their variables must have the same number,
        shapes and dtypes.

        Args:
            state: The content of the file `state.json` of the checkpoint.
        """
        different = _first_difference(state["settings"], self.settings)
        if different:
            raise ValueError(self._difference(*different))
        here = [[list(variable.shape), variable.dtype] for variable in self.variables]
        stored = zip(state["shapes"], state["dtypes"], strict=True)
        there = [list(pair) for pair in stored][: state["variables"]]
        for variable, own, other in zip(self.variables, here, there, strict=False):
            if own != other:
                raise ValueError(self._difference(f"shape of {variable.path}", other, own))
        if len(here) != len(there):
            raise ValueError(self._difference("number of variables", len(there), len(here)))

    def _difference(self, what: str, there: Any, here: Any) -> str:
        return (
            f"The training must match the checkpoints in {self.folder}. "
            f"Expected {what}: {_format(there)}. Received: {_format(here)}. "
            "Use the same settings and data, or another folder for a new training."
        )

    def _write(self, epoch: int, step: int) -> None:
        """Write a checkpoint, and remove all but the newest `keep` checkpoints.

        If the checkpoint of this epoch and step exists already, the method writes nothing.

        Args:
            epoch: Number of finished epochs.
            step: Number of finished steps in the unfinished epoch, or 0 at the end of an epoch.

        Raises:
            CheckpointError: If the checkpoint cannot be written.
        """
        folder = self.folder / f"epoch-{epoch:06d}-step-{step:09d}"
        self.steps_since_write = 0
        if folder.exists():  # `fit` stops at this checkpoint, or before it trained a step more
            return
        means = self._means() if self.means_of_epoch is None else self.means_of_epoch
        values = [*map(tf.convert_to_tensor, self.variables), *means]
        callbacks = {}
        for name, callback in _by_name(self.others).items():
            attributes = _callback_state(callback)
            if attributes.get("best_weights") is not None:
                weights = attributes["best_weights"]
                values += map(tf.convert_to_tensor, weights)
                attributes["best_weights"] = len(weights)
            if attributes:
                callbacks[name] = attributes
        state = {
            "epoch": epoch,
            "step": step,
            "steps": self.params["steps"],
            "stopped": bool(self.model.stop_training),
            "seed": self.model.seed,
            "settings": self.settings,
            "callbacks": callbacks,
            "variables": len(self.variables),
            "means": len(means),
            "shapes": [value.shape.as_list() for value in values],
            "dtypes": [value.dtype.name for value in values],
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(folder) as unfinished:
                unfinished.mkdir()
                _write_values(unfinished / "state", values)
                text = json.dumps(state, default=float)
                (unfinished / "state.json").write_text(text, encoding="utf-8")
                write_checksums(unfinished, CHECKSUMS)
        except (OSError, tf.errors.OpError) as error:
            raise CheckpointError(
                f"The checkpoint {folder} could not be written: {error}. Is the disk full? "
                f"{self._last_checkpoint()}"
            ) from error
        for old in self._all()[: -self.keep]:
            remove(old)

    # === Steps and signals ===

    @property
    def passing(self) -> bool:
        """Whether `fit` is skipping steps that the interrupted run had already trained."""
        return self.steps_to_pass > 0

    def _means(self) -> list[tf.Tensor]:
        """Return the running means of the metrics in the current epoch."""
        variables = _unique(self.model.metrics_variables)
        return [tf.convert_to_tensor(variable) for variable in variables]

    def _pass_over(self, steps: int) -> None:
        """Skip the next `steps` steps: read their batches, but do not train on these batches.

        After the last skipped step, the running means of the metrics are restored from the
        checkpoint.
        """
        assert self.state is not None  # without a checkpoint, there is no step to skip
        train = self.model.train_function
        self.steps_to_pass = steps
        means = self.values[self.state["variables"] :][: self.state["means"]]

        def read_batches(iterator: Any) -> dict[str, Any]:
            for _ in range(min(self.model.steps_per_execution, self.steps_to_pass)):
                batch = next(iterator)
                self.steps_to_pass -= 1
            if self.passing:
                return {}
            if len(_unique(self.model.metrics_variables)) < len(means):
                # metrics given to `compile` get their variables in the first step
                self.model.distribute_strategy.run(self.model.test_step, (batch,))
            for variable, value in zip(_unique(self.model.metrics_variables), means, strict=True):
                variable.assign(value)
            self.model.train_function = train
            return self.model.get_metrics_result()

        self.model.train_function = read_batches

    def _stop_on_signal(self) -> None:
        """Stop the training if SIGTERM or SIGINT has arrived, otherwise do nothing.

        If only one worker trains, the method writes a checkpoint first, unless there is one of this
        step already. For SIGINT, the method raises a `KeyboardInterrupt`. For SIGTERM, it raises a
        `SystemExit` with the exit code 143.
        """
        if self.signal is None:
            return
        if not self.several_workers:  # several workers would all have to write
            self._write(self.epoch, self.steps_done)
        message = f"Stopped by {signal.Signals(self.signal).name}. {self._last_checkpoint()}"
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt(message)
        print(f"\n{message}")
        raise SystemExit(128 + self.signal)

    @contextlib.contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        """Store a signal SIGTERM or SIGINT that arrives during a `with` block.

        The first signal does not stop the process at once. After the current step,
        `_stop_on_signal` reads the stored signal and stops the training. A second signal of the
        same kind is not stored. It calls the handler that was set before the `with` block. Outside
        the main thread, Python allows no signal handlers, and no signals are stored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python allows signal handlers only in the main thread
            return

        def note(number: int, frame: Any) -> None:
            self.signal = number
            signal.signal(number, before[number])

        before: dict[int, Any] = {
            number: signal.getsignal(number) or signal.SIG_DFL
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _write_values(prefix: pathlib.Path, values: Sequence[tf.Tensor]) -> None:
    """Write tensors as a TensorFlow checkpoint, which identifies each tensor by its index.

    The checkpoint does not contain the names of variables, because two processes may give a
    variable different names. The order of the variables is the same in all processes.
    """
    tf.train.Checkpoint(values=[tf.Variable(value) for value in values]).write(str(prefix))


def _read_values(prefix: pathlib.Path, count: int) -> list[Any]:
    """Read all `count` tensors of a checkpoint file. The file can be from version 0.1.0."""
    reader = tf.train.load_checkpoint(str(prefix))
    first = "values/0/.ATTRIBUTES/VARIABLE_VALUE"
    name = first if reader.has_tensor(first) else "0"
    return [reader.get_tensor(name.replace("0", str(number))) for number in range(count)]


def _format(value: Any) -> str:
    """Return a value as text for a message. A float has seven digits, the precision of float32."""
    return f"{value:.7g}" if isinstance(value, float) else repr(value)


def _number(folder: pathlib.Path) -> int:
    """Compute one integer from the epoch and the step in the name of a checkpoint folder.

    A newer checkpoint has a larger integer.
    """
    return int("".join(filter(str.isdigit, folder.name)))


def _callback_state(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return the attributes of a callback that a resumed training restores."""
    if isinstance(callback, keras.callbacks.History):
        return {"epoch": callback.epoch, "history": callback.history}
    return {name: getattr(callback, name) for name in _CALLBACK_STATE if hasattr(callback, name)}


def _settings(model: keras.Model) -> Any:
    """Return the settings, such as the loss, that must be the same when a training is resumed."""
    settings: dict[str, Any] = {"model": type(model).__name__}
    for name, value in constructor_arguments(model).items():
        own_seed = name == "seed" and not model.seed_was_drawn
        if isinstance(value, (keras.Model, Prior)):
            settings[name] = type(value).__name__
        elif isinstance(value, (keras.layers.Layer, Serializable)) or own_seed:
            settings[name] = repr(value)
    for name, value in model.get_compile_config().items():
        if name not in _WITHOUT_EFFECT:
            settings[name] = value
    settings["policy"] = keras.config.dtype_policy().name
    return json.loads(json.dumps(settings, default=repr))


def _first_difference(there: Any, here: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """Find the first value that differs between two nested dictionaries.

    A missing key counts as None. The key `name` is ignored, because Keras puts numbers into names.
    Keys that checkpoints of version 0.1.0 did not have are ignored for such checkpoints.

    Args:
        there: The settings in the checkpoint.
        here: The settings of the resumed training.
        path: The keys that lead to `there` and `here`, joined by dots.

    Returns:
        `(path, expected, received)`, or None if no value differs. `path` consists of the keys that
        lead to the value, joined by dots. `expected` is the value in `there`, and `received` is the
        value in `here`.
    """
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return None if there == here else (path, there, here)
    for key in sorted({*there, *here} - {"name"}):  # Keras puts numbers into names
        if key in (EXACT, OTHER) and key not in there:  # in a checkpoint of version 0.1.0
            continue
        inner = f"{path}.{key}" if path else key
        found = _first_difference(there.get(key), here.get(key), inner)
        if found:
            return found
    return None


def _by_name(
    callbacks: Iterable[keras.callbacks.Callback],
) -> dict[str, keras.callbacks.Callback]:
    """Give each callback a name that stays the same when the training is resumed.

    The name consists of the class and the number of earlier callbacks of this class, such as
    `"EarlyStopping 0"` for the first `EarlyStopping`.

    Returns:
        Dictionary from names to callbacks.
    """
    named: dict[str, keras.callbacks.Callback] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        number = sum(name.startswith(f"{kind} ") for name in named)
        named[f"{kind} {number}"] = callback
    return named


def _unique(variables: Iterable[Any]) -> list[Any]:
    """Return the variables without repetitions."""
    return list({id(variable): variable for variable in variables}.values())
