"""Send requests for every signature of a model to a running TensorFlow Serving, over REST and gRPC.

`python scripts/smoke_test_server.py --help` shows the arguments. The tests run this script against
a server that follows the same interface, and not against TensorFlow Serving itself.
"""

import time

import numpy as np
import tyro

from keras_gen.serving import GRPCClient, RESTClient


def main(
    rest: tyro.conf.Positional[str],
    model: tyro.conf.Positional[str],
    grpc: str | None = None,
    rows: int = 8,
) -> None:
    """Call every signature and print its time. A wrong answer ends the script with exit code 1.

    Args:
        rest: Address of the REST port, such as http://localhost:8501.
        model: Name of the model.
        grpc: Address of the gRPC port, such as localhost:8500.
        rows: Number of rows per request.
    """
    clients: list[RESTClient | GRPCClient] = [RESTClient(rest, model)]
    if grpc:
        clients.append(GRPCClient(grpc, model))
    print(*clients[0].status())
    for name, signature in clients[0].signatures().items():
        if any(tensor.dtype == "object" for tensor in signature.inputs.values()):
            continue  # the inputs are PNG files, for which this script makes no example
        inputs = {
            key: example(key, tensor.dtype, (rows, *tensor.shape[1:]))
            for key, tensor in signature.inputs.items()
        }
        answers = []
        for client in clients:
            start = time.perf_counter()
            answers.append(client.predict(name, **inputs))
            milliseconds = 1e3 * (time.perf_counter() - start)
            print(f"{name:24} {type(client).__name__:12} {milliseconds:8.1f} ms")
        for answer in answers:
            compare(name, answer, answers[0], rows)
    print("All answers agree.")


def example(name: str, dtype: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a batch for one input of a signature: labels 0 and 1, seeds, or values of 0.5."""
    if name == "condition":
        return np.arange(shape[0]) % 2
    if dtype == "int64":
        return np.arange(shape[0])
    return np.full(shape, 0.5)


def compare(
    name: str, answer: dict[str, np.ndarray], expected: dict[str, np.ndarray], rows: int
) -> None:
    """Raise an `AssertionError` unless an answer has a row per request and the expected values."""
    for key, value in answer.items():
        assert len(value) == rows, (name, key, value.shape)
        if value.dtype != object:
            np.testing.assert_allclose(
                value, expected[key], rtol=1e-4, atol=1e-5, err_msg=f"{name} {key}"
            )


if __name__ == "__main__":
    tyro.cli(main)
