"""Record the environment of a run: versions, devices and the git commit."""

from __future__ import annotations

import datetime
import pathlib
import platform
import subprocess
import warnings
from typing import Any

import tensorflow as tf
import yaml

from keras_gen._files import PathLike, atomic_write
from keras_gen._versions import versions


def record_environment(path: PathLike) -> None:
    """Append the versions, the devices and the git commit of a run to a YAML file.

    A run calls this function each time the run starts or resumes. If the version of a package has
    changed since the previous start, the function warns.

    Args:
        path: Path of the file, `environment.yaml` in the folder of a run.
    """
    path = pathlib.Path(path)
    starts = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else []
    start: dict[str, Any] = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": _devices(),
        "versions": versions(),
    }
    if starts:
        _warn_of_changes(starts[-1]["versions"], start["versions"])
    with atomic_write(path) as unfinished:
        unfinished.write_text(yaml.safe_dump([*starts, start], sort_keys=False), encoding="utf-8")


def _warn_of_changes(before: dict[str, str], now: dict[str, str]) -> None:
    for name, version in now.items():
        if before.get(name) != version:
            warnings.warn(
                f"The run was last started with {name} {before.get(name)} and is resumed with "
                f"{version}. The result may differ from that of an uninterrupted run.",
                stacklevel=3,
            )


def _devices() -> list[str]:
    """Return the type and the name of each device as `TYPE:NAME`.

    If TensorFlow knows no name, as for a CPU, NAME is the machine type, such as `x86_64`.
    """
    names = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        names.append(f"{device.device_type}:{details.get('device_name', platform.machine())}")
    return names


def _git_commit() -> str | None:
    """Return the git commit of the working directory, or None if git reports no commit.

    For instance, the result is None outside a git repository, or if git is not installed. The
    result ends in `-dirty` if a tracked file differs from the commit.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
