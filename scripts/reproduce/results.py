"""Store results: one JSON file per training, one section of `docs/results.md` per table."""

import json
import pathlib
import statistics
import textwrap

DOCS = pathlib.Path(__file__).parents[2] / "docs"
_FILLED = textwrap.TextWrapper(100, break_long_words=False, break_on_hyphens=False)


def save(table, case, result):
    """Write the result of one training of a table."""
    path = DOCS / "results" / f"{table}-{case}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def load(table):
    """Return all results of a table so far, by case."""
    paths = sorted((DOCS / "results").glob(f"{table}-*.json"))
    return {path.stem.removeprefix(f"{table}-"): json.loads(path.read_text()) for path in paths}


def complete(table, cases, train, **protocol):
    """Train all cases that have no result yet, and write their results.

    Args:
        table: Name of the table.
        cases: The arguments of `train`, by name of the case.
        train: Function that trains and returns a result as a dictionary.
        **protocol: Settings that are stored with each result.

    Raises:
        ValueError: If a result exists that has another protocol.
    """
    for case, result in load(table).items():
        received = {name: result.get(name) for name in protocol}
        if case in cases and received != protocol:
            raise ValueError(
                f"Expected {table}-{case}.json with the protocol {protocol}. Received: {received}. "
                "Remove the file to train the case again."
            )
    for case, arguments in cases.items():
        if case not in load(table):
            result = {**train(*arguments), **protocol}
            save(table, case, result)
            print(result, flush=True)


def spread(values, digits=2):
    """Return the mean ± the standard deviation, or only the mean of a single value."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def column(rows, name):
    """Return the values of one key."""
    return [row[name] for row in rows]


def markdown(head, rows):
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def wrapped(text):
    """Return Markdown text whose paragraphs have lines of at most 100 characters."""
    blocks = []
    for block in text.split("\n\n"):
        is_paragraph = not block.startswith(("|", "- "))
        blocks.append(_FILLED.fill(block) if is_paragraph else block)
    return "\n\n".join(blocks)


def write_section(title, text):
    """Write a section of `docs/results.md`, in place of an earlier one with the same title."""
    path = DOCS / "results.md"
    head, *sections = path.read_text().split("\n## ")
    section = f"{title}\n\n{wrapped(text.strip())}\n"
    titles = [section.split("\n")[0] for section in sections]
    if title in titles:
        sections[titles.index(title)] = section
    else:
        sections.append(section)
    path.write_text("\n## ".join([head, *sections]))
