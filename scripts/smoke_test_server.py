"""Ask a running TensorFlow Serving for all that a model offers, over REST and gRPC: `python scripts/smoke_test_server.py --help`.

Not run by the tests, which have no server of TensorFlow Serving.
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
):
    """Call every signature and print how long it took; an error ends it with exit code 1.

    Args:
        rest: Address of the REST port, such as http://localhost:8501.
        model: Name of the model.
        grpc: Address of the gRPC port, such as localhost:8500.
        rows: Rows of a request.
    """
    clients = [
        RESTClient(rest, model),
        RESTClient(rest, model, rows=True),
        *([GRPCClient(grpc, model)] if grpc else []),
    ]
    print(*clients[0].status())
    for name, signature in clients[0].signatures().items():
        if any(tensor.dtype == "object" for tensor in signature.inputs.values()):
            continue  # PNG
        inputs = {
            key: np.arange(rows) % (2 if key == "condition" else rows)
            if tensor.dtype == "int64"
            else np.full((rows, *tensor.shape[1:]), 0.5)
            for key, tensor in signature.inputs.items()
        }
        answers = []
        for client in clients:
            start = time.perf_counter()
            answers.append(client.predict(name, **inputs))
            print(
                f"{name:24} {type(client).__name__:12} {1e3 * (time.perf_counter() - start):8.1f} ms"
            )
        for answer in answers:
            for key, value in answer.items():
                assert len(value) == rows, (name, key, value.shape)
                if value.dtype != object:
                    np.testing.assert_allclose(
                        value, answers[0][key], rtol=1e-4, atol=1e-5, err_msg=f"{name} {key}"
                    )
    print("All answers agree.")


if __name__ == "__main__":
    tyro.cli(main)
