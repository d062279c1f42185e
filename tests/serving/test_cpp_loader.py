"""Every exported model in the C++ loader of TensorFlow Serving, without Python's TensorFlow."""

import json
import math
import pathlib
import subprocess
import sys

import pytest
from support import SERVED

QUICK_CALLS = 50  # per thread
MANY_CALLS = 1000
CHECKS = pathlib.Path(__file__).with_name("cpp_checks.py")
SIGNATURES = {
    "autoencoder": {"serving_default", "encode", "decode", "score", "generate"},
    "vae": {"serving_default", "encode", "decode", "score", "generate"},
    "hierarchical_vae": {"serving_default", "encode", "decode", "score", "generate"},
    "gan": {"serving_default", "decode", "generate", "discriminate"},
    "vq_vae": {"serving_default", "encode", "decode", "score", "generate"},
}


def findings_of(published, calls):
    folders = [str(published / name / "1") for name in SERVED]
    command = [sys.executable, str(CHECKS), str(calls), *folders]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="session")
def findings(once, published):
    """What the loader makes of every model, by name."""

    def check(folder):
        found = findings_of(published, QUICK_CALLS)
        (folder / "findings.json").write_text(json.dumps(found))

    return json.loads((once("findings", check) / "findings.json").read_text())


@pytest.mark.parametrize("name", SERVED)
def test_it_offers_and_answers_every_signature_as_keras_does(findings, name):
    found, expected = findings[name], SIGNATURES[name.removeprefix("conditional_")]
    expected = expected | {f"{signature}_bytes" for signature in expected}
    assert (
        set(found["signatures"]) - {"__saved_model_init_op"}
        == expected
        == set(found["differences"])
    )
    assert all(
        found["differences"][signature] <= 1e-5 * (100 if "score" in signature else 1)
        for signature in expected
    ), found
    assert all(
        found["splits"][signature] <= 1e-5 * (100 if "score" in signature else 1)
        for signature in expected
    ), found
    assert all(found["empty"].values()), found["empty"]


@pytest.mark.parametrize("name", SERVED)
def test_eight_threads_get_bit_for_bit_what_one_gets(findings, name):
    assert findings[name]["threads"] == {"generate": 0}


@pytest.mark.slow
def test_eight_threads_get_bit_for_bit_what_one_gets_in_a_thousand_calls_each(published):
    found = findings_of(published, MANY_CALLS)
    assert {name: found[name]["threads"] for name in SERVED} == {
        name: {"generate": 0} for name in SERVED
    }


@pytest.mark.parametrize("name", SERVED)
def test_an_input_of_the_wrong_dtype_or_rank_is_an_error_that_says_so(findings, name):
    for signature, errors in findings[name]["errors"].items():
        assert errors["wrong dtype"].startswith("INVALID_ARGUMENT: Expects arg[0] to be "), (
            signature
        )
        assert errors["wrong rank"].startswith("INVALID_ARGUMENT: "), signature
        if not signature.endswith("_bytes"):
            assert "is not compatible with expected shape [?" in errors["wrong rank"], signature


@pytest.mark.parametrize("name", SERVED)
def test_the_loader_finds_damage_and_lost_variables_fail_when_they_run(findings, name):
    assert findings[name]["damage"] == {
        "flipped bit": "load: DATA_LOSS",
        "no variables": "run: FAILED_PRECONDITION",
        "no graph": "load: NOT_FOUND",
    }


@pytest.mark.parametrize("name", SERVED)
def test_each_weight_is_stored_once_and_little_else(published, models, name):
    model, folder = models[name], published / name / "1"
    # The EMA generator is served in place of the generator.
    unused = model.generator.variables if name.endswith("gan") else []
    kept_by_keras = [
        *model.optimizer.variables,
        *(v for metric in model.metrics for v in metric.variables),
        *unused,
    ]
    served = sum(
        math.prod(v.shape)
        for v in {id(v): v for v in model.variables}.values()
        if not any(v is other for other in kept_by_keras)
    )
    data = next((folder / "variables").glob("variables.data*")).stat().st_size
    assert 4 * served <= data < 4 * served + 10_000  # besides weights, the names of the variables
