"""Checks of exported models in the C++ loader, run by test_cpp_loader.py in a separate process.

`python cpp_checks.py CALLS FOLDER ...` prints its findings as JSON: model → finding → value.
`python cpp_checks.py answers FOLDER` reads requests as JSON, a list of [signature, inputs], and
prints the answer to each: its outputs, or the text of the error.
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
IN_THREADS = ("generate", "generate_columns", "impute", "impute_columns")


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
        if signature in IN_THREADS:
            found["threads"][signature] = wrong_in_threads(model, signature, inputs, calls)
    found["damage"] = {
        how: reaction(folder, how) for how in ("flipped bit", "no variables", "no graph")
    }
    return found


def gap(a, b):
    """Return the largest difference of two arrays; for bytes 0 if they are equal, or 1.

    Equal infinite numbers do not differ, and NaN does not differ from NaN.
    """
    if b.dtype.kind == "O":
        return 0.0 if a.tolist() == b.tolist() else 1.0
    a, b = a.astype(float), b.astype(float)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    return float(np.max(np.abs(np.subtract(a, b, out=np.zeros(a.shape), where=~equal))))


def identical(a, b):
    """Return whether two arrays are bit-for-bit identical."""
    return a.tolist() == b.tolist() if a.dtype.kind == "O" else a.tobytes() == b.tobytes()


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
            wrong += not all(identical(found[name], answer[name]) for name in answer)
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


def answers(folder, requests):
    """Return the outputs of each request as lists, or its error as a text."""
    model = cpp_loader.SavedModel(folder)
    found = []
    for signature, inputs in requests:
        infos = model.definitions[signature].inputs
        arrays = {name: as_array(x, infos[name].dtype) for name, x in inputs.items()}
        try:
            outputs = model.run(signature, arrays)
        except cpp_loader.LoaderError as error:
            found.append(str(error))
            continue
        found.append({name: as_list(value) for name, value in outputs.items()})
    return found


def as_array(values, number):
    """Return values of JSON as an array; texts become bytes."""
    dtype = cpp_loader.DTYPES[number]
    if dtype.kind == "O":
        return np.array([text.encode() for text in values], object)
    return np.array(values, dtype)


def as_list(array):
    """Return an array as lists for JSON; bytes become texts."""
    if array.dtype.kind == "O":
        return [value.decode() for value in array]
    return array.tolist()


if __name__ == "__main__":
    calls, *folders = sys.argv[1:]
    if calls == "answers":
        print(json.dumps(answers(folders[0], json.load(sys.stdin))))
        sys.exit()
    found = {pathlib.Path(folder).parent.name: findings(folder, int(calls)) for folder in folders}
    print(json.dumps(found))
