import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_autoencoder

from keras_gen import serving


def test_versions_count_up_and_the_earlier_stay(images, tmp_path):
    model, _ = tiny_autoencoder()
    base = tmp_path / "models" / "digits"
    assert serving.publish(model, base) == base / "1"
    before = tf.saved_model.load(str(base / "1")).signatures["encode"](inputs=tf.constant(images))["latents"]
    (base / "7").mkdir()
    model.set_weights([weights + 1 for weights in model.get_weights()])
    assert serving.publish(model, base) == base / "8"
    assert sorted(folder.name for folder in base.iterdir()) == ["1", "7", "8"]
    after = [tf.saved_model.load(str(base / v)).signatures["encode"](inputs=tf.constant(images))["latents"] for v in ("1", "8")]
    np.testing.assert_array_equal(after[0], before)
    assert not np.allclose(after[1], before)


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    model, _ = tiny_autoencoder()

    def write_half(path):
        path.mkdir()
        (path / "saved_model.pb").write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(model, "export", write_half)
    with pytest.raises(OSError, match="No space left"):
        serving.publish(model, tmp_path / "digits")
    assert list((tmp_path / "digits").iterdir()) == []
