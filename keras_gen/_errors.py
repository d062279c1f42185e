"""Messages that survive the way through a TensorFlow graph."""

import re

import tensorflow as tf

_MARK = "<keras_gen>"


def mark(message: str) -> str:
    """Mark a message, so that `marked_message` finds it inside a TensorFlow error."""
    return f"{_MARK}{message}{_MARK}"


def marked_message(error: tf.errors.OpError) -> str | None:
    """Return the message that `mark` marked, or None if the error holds none.

    A `#` in the message is replaced by the number that the graph's assertion put after it.
    """
    found = re.search(rf"{_MARK}(.*?){_MARK}(?:\] \[(\d+))?", str(error), re.DOTALL)
    return found and found[1].replace("#", found[2] or "#")
