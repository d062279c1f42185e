"""What a run was made with: versions, devices, git commit."""

import datetime
import pathlib
import platform
import subprocess
import warnings

import tensorflow as tf
import yaml

from keras_gen._files import PathLike, atomic_write
from keras_gen._versions import versions


def record_environment(folder: PathLike) -> None:
    """Append the environment of this start to `folder/environment.yaml`, and warn if a version is another than at the one before.

    Args:
        folder: Folder of a run.
    """
    path = pathlib.Path(folder) / "environment.yaml"
    before = yaml.safe_load(path.read_text()) if path.is_file() else []
    now = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [
            f"{device.device_type}:{_details(device)}"
            for device in tf.config.list_physical_devices()
        ],
        "versions": versions(),
    }
    for name, version in now["versions"].items():
        if before and before[-1]["versions"].get(name) != version:
            warnings.warn(
                f"The run had {name} {before[-1]['versions'].get(name)} and goes on with {version}, so not to the last bit.",
                stacklevel=2,
            )
    with atomic_write(path) as unfinished:
        unfinished.write_text(yaml.safe_dump([*before, now], sort_keys=False))


def _details(device):
    return tf.config.experimental.get_device_details(device).get("device_name", platform.machine())


def _git_commit():
    """The commit of the working directory, with `-dirty` if files differ from it; None outside a repository."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
