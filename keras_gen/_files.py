"""Locks of folders, checksums that detect damage, and atomic writes of files and folders."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator

PathLike = str | os.PathLike[str]
"""A path as a string or a `pathlib.Path`."""

UNFINISHED = "unfinished-"
"""Prefix of the temporary name under which `atomic_write` writes."""


@contextlib.contextmanager
def atomic_write(path: PathLike) -> Iterator[pathlib.Path]:
    """Write a file or a folder completely or not at all.

    In the `with` block, the caller writes to a temporary path beside `path`. At the end of the
    block, the temporary file or folder is flushed to disk and renamed to `path`. If an error occurs
    before the renaming, `path` does not change. If the process is killed, the next call with the
    same `path` removes the temporary file or folder.

    Args:
        path: Path of the file or folder. An existing file is replaced. A folder must not exist yet.

    Yields:
        The temporary path to write to.

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
    """Hold a lock on a folder during a `with` block. Only one process can hold it at a time.

    If the process is killed, the operating system releases the lock.

    Args:
        folder: An existing folder.
        wait: Whether to wait while another process holds the lock. Default: True.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is False.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def remove(path: PathLike) -> None:
    """Remove a file or a folder, if it exists."""
    path = pathlib.Path(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_checksums(folder: PathLike, name: str) -> None:
    """Write the file `folder/name` with the SHA-256 checksums of all other files in `folder`.

    The command `sha256sum -c` can read this file and check the other files. The first line of the
    file is a comment, which contains the checksum of all other lines. Therefore the function
    `damaged_files` can also detect damage of the file of checksums itself.

    Args:
        folder: An existing folder. Files in its subfolders are included.
        name: Name of the file of checksums, such as `"checksums"`.
    """
    folder = pathlib.Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / name)
    lines = "".join(f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    checksum = hashlib.sha256(lines.encode()).hexdigest()
    (folder / name).write_text(f"# {checksum}\n{lines}", encoding="utf-8")


def damaged_files(folder: PathLike, name: str) -> list[str]:
    """Compare the files in a folder with the checksums that `write_checksums` wrote.

    Args:
        folder: The folder.
        name: Name of the file of checksums in the folder.

    Returns:
        One sentence per missing or damaged file. The list is empty if all files are intact. If the
        file of checksums is missing or damaged, the list contains only a sentence about this file,
        because the other files cannot be checked.
    """
    folder = pathlib.Path(folder)
    if not (folder / name).is_file():
        return [f"{name} is missing, so the folder is perhaps incomplete"]
    first, _, lines = (folder / name).read_bytes().partition(b"\n")
    if first != f"# {hashlib.sha256(lines).hexdigest()}".encode():
        return [f"{name} is damaged: its content has changed since it was written"]
    problems = []
    for line in lines.decode().splitlines():
        expected, file = line.split("  ", 1)
        if not (folder / file).is_file():
            problems.append(f"{file} is missing")
        elif _sha256(folder / file) != expected:
            problems.append(f"{file} is damaged: its content has changed since it was written")
    return problems


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: pathlib.Path) -> None:
    """Make the operating system write a file or folder to the disk, and wait until this is done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
