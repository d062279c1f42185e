"""Messages that survive the way through a TensorFlow graph.

An error inside a graph reaches Python as a TensorFlow error, with the message somewhere in its
text. A marked message can be found again there.
"""

import re

# Invisible separators: where nobody removes the marks, the user does not see them either.
_MARK = "\u2063\u2063"
_MARKED = re.compile(rf"{_MARK}(.*?){_MARK}(?:\] \[(\d+))?", re.DOTALL)


def mark(message: str) -> str:
    """Mark a message, so that `marked_message` finds it inside a TensorFlow error."""
    return f"{_MARK}{message}{_MARK}"


def marked_message(error: Exception) -> str | None:
    """Return the marked message inside an error, or None if there is none.

    A `#` in the message stands for the number that follows it in the data of an assertion, for
    instance the index of an example in its batch.

    Example:
        >>> marked_message(ValueError("assertion failed: [" + mark("Bad example #.") + "] [3]"))
        'Bad example 3.'
    """
    found = _MARKED.search(str(error))
    if found is None:
        return None
    message, number = found.groups()
    return message if number is None else message.replace("#", number)
