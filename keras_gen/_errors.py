"""Mark error messages, so that they can be found in the longer text of a TensorFlow error.

If a check inside a TensorFlow graph fails, TensorFlow raises its own error. The text of this error
contains the message of the check, with other text before and after the message. Therefore `mark`
puts invisible characters at both ends of a message, and `marked_message` searches for them.

`warn_user` gives a warning that names a line of the user's program.
"""

import inspect
import re
import warnings

# These characters are invisible, so a user does not see marks that remain in a message.
_MARK = "\u2063\u2063"
_MARKED = re.compile(rf"{_MARK}(.*?){_MARK}(?:\] \[(-?\d+))?(?:\] \[(-?\d+))?", re.DOTALL)


def mark(message: str) -> str:
    """Put marks around a message, so that `marked_message` finds it inside a TensorFlow error."""
    return f"{_MARK}{message}{_MARK}"


def readable(text: str) -> str:
    """Return a text without the marks around messages."""
    return text.replace(_MARK, "")


def marked_message(error: Exception) -> str | None:
    """Return the part of an error's text that is between the marks of the function `mark`.

    If the text contains no marks, the function returns None.

    A message can contain `#` as a placeholder for a number that only the TensorFlow graph knows,
    such as the index of an example in its batch. TensorFlow prints this number directly after the
    message. The function replaces each `#` in the message by this number. If TensorFlow printed two
    numbers, the function replaces each `#` by the first number, and each `@` by the second number.

    Example:
        >>> marked_message(ValueError("assertion failed: [" + mark("Bad example #.") + "] [3]"))
        'Bad example 3.'
    """
    found = _MARKED.search(str(error))
    if found is None:
        return None
    message, first, second = found.groups()
    message = message if first is None else message.replace("#", first)
    return message if second is None else message.replace("@", second)


def warn_user(message: str) -> None:
    """Give a warning that names the line of the user's program that called this package."""
    level = 1
    frame = inspect.currentframe()
    while frame is not None and _is_in_package(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        level += 1
    warnings.warn(message, stacklevel=level)


def _is_in_package(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]
