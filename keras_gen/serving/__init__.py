"""From a trained model to a folder that TensorFlow Serving watches."""

from keras_gen.serving.publish import publish

__all__ = ["publish"]
