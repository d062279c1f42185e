"""Files and folders that are whole or not there, and checksums that tell what was damaged later."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator

PathLike = str | os.PathLike[str]
"""Where a file or a folder is."""

UNFINISHED = "unfinished-"


@contextlib.contextmanager
def atomic_write(path: PathLike) -> Iterator[pathlib.Path]:
    """A place to write a file or a folder, which is given the name `path` when it is whole and on the disk.

    Whatever happens before, `path` is as it was. What a killed process left half-written goes with the next call.

    Args:
        path: The file, which may exist, or the folder, which may not.

    Example:

    >>> import tempfile
    >>> settings = pathlib.Path(tempfile.mkdtemp()) / "settings.txt"
    >>> with atomic_write(settings) as unfinished:
    ...     _ = unfinished.write_text("seed: 0")
    >>> settings.read_text()
    'seed: 0'
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f"{UNFINISHED}{path.name}")
    remove(unfinished)
    try:
        yield unfinished
        for written in (unfinished, *unfinished.rglob("*")):
            _sync(written)
        unfinished.replace(path)
        _sync(path.parent)
    finally:
        remove(unfinished)


@contextlib.contextmanager
def folder_lock(folder: PathLike, wait: bool = True) -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder; the system takes the lock back from one that is killed.

    Args:
        folder: The folder.
        wait: Wait until another is done, or raise `BlockingIOError`.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def remove(path: PathLike) -> None:
    """Remove a file or a folder, if it is there."""
    path = pathlib.Path(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_checksums(folder: PathLike, name: str) -> None:
    """Write the checksums of all files into `folder/name`, which `sha256sum -c` reads too; its first line is its own checksum."""
    folder = pathlib.Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / name)
    lines = "".join(f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    (folder / name).write_text(f"# {hashlib.sha256(lines.encode()).hexdigest()}\n{lines}")


def damaged_files(folder: PathLike, name: str) -> list[str]:
    """What is missing from a folder or not as it was when `write_checksums` read it, one sentence for each file."""
    folder = pathlib.Path(folder)
    if not (folder / name).is_file():
        return [f"{name} is missing: was all of the folder written, and copied?"]
    first, _, lines = (folder / name).read_bytes().partition(b"\n")
    if first != f"# {hashlib.sha256(lines).hexdigest()}".encode():
        return [f"{name} is damaged: it is not as it was written"]
    found = []
    for line in lines.decode().splitlines():
        expected, file = line.split("  ", 1)
        if not (folder / file).is_file():
            found.append(f"{file} is missing")
        elif _sum(folder / file) != expected:
            found.append(f"{file} is damaged: it is not as it was written")
    return found


def _sum(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path):
    """Have the disk hold what was written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
