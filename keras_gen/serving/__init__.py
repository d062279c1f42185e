"""Serve a trained model with TensorFlow Serving: publish, verify and call the model."""

from keras_gen.serving.client import GRPCClient, RESTClient, ServingError
from keras_gen.serving.publish import PublishError, publish
from keras_gen.serving.verify import Verification, verify

__all__ = [
    "GRPCClient",
    "PublishError",
    "RESTClient",
    "ServingError",
    "Verification",
    "publish",
    "verify",
]
