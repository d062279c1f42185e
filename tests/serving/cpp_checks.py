"""Checks of exported models in the C++ loader, run by test_cpp_loader.py in a separate process.

`python cpp_checks.py CALLS FOLDER ...` prints its findings as JSON: model → finding → value.
"""

import concurrent.futures
import json
import pathlib
import shutil
import sys
import tempfile

import cpp_loader
import numpy as np

THREADS = 8


def findings(folder, calls):
    """Return what the loader makes of a SavedModel; each thread makes `calls` requests."""
    model = cpp_loader.SavedModel(folder)
    records = list(cpp_loader.warm_up_records(folder))
    found = {
        "signatures": sorted(model.definitions),
        "differences": {},
        "splits": {},
        "empty": {},
        "threads": {},
        "errors": {},
    }
    for signature, inputs, expected in records:
        whole = model.run(signature, inputs)
        rows = [
            model.run(signature, {name: x[i : i + 1] for name, x in inputs.items()})
            for i in range(3)
        ]
        empty = model.run(signature, {name: x[:0] for name, x in inputs.items()})
        found["differences"][signature] = max(
            gap(whole[name], value) for name, value in expected.items()
        )
        found["splits"][signature] = max(
            gap(np.concatenate([row[name] for row in rows]), whole[name]) for name in whole
        )
        found["empty"][signature] = all(
            empty[name].shape == (0, *whole[name].shape[1:]) for name in whole
        )
        wrong_dtype = {name: np.ones(x.shape, np.int32) for name, x in inputs.items()}
        wrong_rank = {name: x[..., None] for name, x in inputs.items()}
        found["errors"][signature] = {
            "wrong dtype": refusal(model, signature, wrong_dtype),
            "wrong rank": refusal(model, signature, wrong_rank),
        }
        if signature == "generate":
            found["threads"][signature] = wrong_in_threads(model, signature, inputs, calls)
    found["damage"] = {
        how: reaction(folder, how) for how in ("flipped bit", "no variables", "no graph")
    }
    return found


def gap(a, b):
    """Return the largest difference of two arrays; for bytes 0 if they are equal, or 1."""
    if b.dtype.kind == "O":
        return 0.0 if a.tolist() == b.tolist() else 1.0
    return float(np.max(np.abs(a.astype(float) - b)))


def refusal(model, signature, inputs):
    """Return the first line of the error of a request, or "none"."""
    try:
        model.run(signature, inputs)
    except cpp_loader.LoaderError as error:
        return str(error).splitlines()[0]
    return "none"


def wrong_in_threads(model, signature, inputs, calls):
    """Return how many concurrent answers are not bit-for-bit identical to those of one thread."""
    requests = []
    for i in range(calls):
        request = {
            name: x + i if x.dtype == np.int64 else np.roll(x, i, 0) for name, x in inputs.items()
        }
        if "condition" in inputs:
            request["condition"] = inputs["condition"]
        requests.append(request)
    expected = [model.run(signature, request) for request in requests]

    def count_wrong(_):
        wrong = 0
        for request, answer in zip(requests, expected, strict=True):
            found = model.run(signature, request)
            wrong += any(not np.array_equal(found[name], answer[name]) for name in answer)
        return wrong

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(count_wrong, range(THREADS)))


def reaction(folder, how):
    """Return what happens to a damaged copy: when it is loaded, or when it is first run."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = pathlib.Path(temporary) / "1"
        shutil.copytree(folder, copy)
        if how == "no variables":
            shutil.rmtree(copy / "variables")
        elif how == "no graph":
            (copy / "saved_model.pb").unlink()
        else:
            [data] = (copy / "variables").glob("variables.data*")
            content = bytearray(data.read_bytes())
            content[100] ^= 1
            data.write_bytes(content)
        try:
            model = cpp_loader.SavedModel(copy)
        except cpp_loader.LoaderError as error:
            return f"load: {error.code}"
        signature, inputs, _ = next(cpp_loader.warm_up_records(copy))
        return f"run: {refusal(model, signature, inputs).split(':')[0]}"


if __name__ == "__main__":
    calls, *folders = sys.argv[1:]
    found = {pathlib.Path(folder).parent.name: findings(folder, int(calls)) for folder in folders}
    print(json.dumps(found))
