"""What the C++ loader makes of exported models: run by test_cpp_loader.py in a process without Python's TensorFlow.

`python cpp_checks.py FOLDER ...` prints its findings as JSON, name of the model → finding → value.
"""

import concurrent.futures
import json
import pathlib
import shutil
import sys
import tempfile

import cpp_loader
import numpy as np

CALLS, THREADS = 1000, 8


def findings(folder):
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
        found["differences"][signature] = max(
            gap(whole[name], value) for name, value in expected.items()
        )
        found["splits"][signature] = max(
            gap(np.concatenate([row[name] for row in rows]), whole[name]) for name in whole
        )
        empty = model.run(signature, {name: x[:0] for name, x in inputs.items()})
        found["empty"][signature] = all(
            empty[name].shape == (0, *whole[name].shape[1:]) for name in whole
        )
        found["errors"][signature] = {
            "wrong dtype": refusal(
                model, signature, {name: np.ones(x.shape, np.int32) for name, x in inputs.items()}
            ),
            "wrong rank": refusal(
                model, signature, {name: x[..., None] for name, x in inputs.items()}
            ),
        }
        if signature == "generate":
            found["threads"][signature] = wrong_in_threads(model, signature, inputs)
    found["damage"] = {
        how: reaction(folder, how) for how in ("flipped bit", "no variables", "no graph")
    }
    return found


def gap(a, b):
    if b.dtype.kind == "O":
        return 0.0 if a.tolist() == b.tolist() else 1.0
    return float(np.max(np.abs(a.astype(float) - b)))


def refusal(model, signature, inputs):
    try:
        model.run(signature, inputs)
    except cpp_loader.LoaderError as error:
        return str(error).splitlines()[0]
    return "none"


def wrong_in_threads(model, signature, inputs):
    """How many of 8 × 1,000 concurrent answers are not bit for bit those of one thread."""
    requests = [
        {name: np.roll(x, i, 0) if x.dtype != np.int64 else x + i for name, x in inputs.items()}
        for i in range(CALLS)
    ]
    if "condition" in inputs:
        requests = [{**request, "condition": inputs["condition"]} for request in requests]
    alone = [model.run(signature, request) for request in requests]

    def calls(_):
        return sum(
            any(not np.array_equal(answer[name], expected[name]) for name in expected)
            for answer, expected in (
                (model.run(signature, request), expected)
                for request, expected in zip(requests, alone, strict=True)
            )
        )

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(calls, range(THREADS)))


def reaction(folder, how):
    """What happens to a damaged copy: when it is loaded, or when it is first run."""
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
    print(
        json.dumps({pathlib.Path(folder).parent.name: findings(folder) for folder in sys.argv[1:]})
    )
