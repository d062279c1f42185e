"""Where the reproductions keep what they found: a JSON file a training, and a section of `docs/results.md` a table."""

import json
import pathlib
import statistics

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def save(table, case, result):
    """Keep the result of one training of a table."""
    path = DOCS / "results" / f"{table}-{case}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def load(table):
    """All results of a table so far, by case."""
    paths = sorted((DOCS / "results").glob(f"{table}-*.json"))
    return {path.stem.removeprefix(f"{table}-"): json.loads(path.read_text()) for path in paths}


def complete(table, cases, train, **protocol):
    """Train the cases that have no result yet, a name and the arguments of `train` each, and keep what it returns.

    Each result has the `protocol` with it; one that is there and has another is an error, since a table is of one.
    """
    for case, result in load(table).items():
        made = {name: result.get(name) for name in protocol}
        if case in cases and made != protocol:
            raise ValueError(
                f"Expected {table}-{case}.json of {protocol}. Received: one of {made}. Remove it, to train it anew."
            )
    for case, arguments in cases.items():
        if case not in load(table):
            result = {**train(*arguments), **protocol}
            save(table, case, result)
            print(result, flush=True)


def spread(values, digits=2):
    """Mean and standard deviation over seeds, or the number if it is one."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def markdown(head, rows):
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write_section(title, text):
    """Put a section into `docs/results.md`, in the place of the one with its title if there is one."""
    path = DOCS / "results.md"
    head, *sections = path.read_text().split("\n## ")
    section, titles = (
        f"{title}\n\n{text.strip()}\n",
        [section.split("\n")[0] for section in sections],
    )
    if title in titles:
        sections[titles.index(title)] = section
    else:
        sections.append(section)
    path.write_text("\n## ".join([head, *sections]))
