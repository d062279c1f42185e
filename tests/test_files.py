"""Removing files and folders, atomic writes, locks and checksums."""

import hashlib
import os
import threading
import time

import pytest

from keras_gen._files import (
    UNFINISHED,
    atomic_write,
    damaged_files,
    folder_lock,
    remove,
    write_checksums,
)


def next_descriptor():
    """Return the lowest file descriptor that is not in use."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_files_and_folders_are_removed_by_strings_and_paths(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path in (str(tmp_path / "folder"), tmp_path / "file", str(tmp_path / "never there")):
        remove(path)
    assert not list(tmp_path.iterdir())


def fail_while_writing(path, before=lambda: None):
    with atomic_write(path) as unfinished:
        unfinished.mkdir()
        before()
        raise KeyError


def test_a_write_that_fails_changes_nothing_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyError):
        fail_while_writing(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with atomic_write(tmp_path / "file") as unfinished:
        unfinished.write_text("new")
        assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    left = tmp_path / f"{UNFINISHED}folder"
    left.mkdir()
    (left / "old").touch()
    with atomic_write(tmp_path / "folder") as unfinished:
        assert unfinished == left
        unfinished.mkdir()
        (unfinished / "new").touch()
    assert [found.name for found in (tmp_path / "folder").iterdir()] == ["new"]


def test_an_error_is_not_hidden_by_a_folder_that_cannot_be_removed(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise PermissionError

    with monkeypatch.context() as patch, pytest.raises(KeyError):
        fail_while_writing(tmp_path / "folder", lambda: patch.setattr(os, "rmdir", fail))


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    fsync = os.fsync
    synced = {}

    def record(descriptor):
        synced[os.fstat(descriptor).st_ino] = path.exists()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    expected = next_descriptor()
    with atomic_write(path) as unfinished:
        (unfinished / "inner").mkdir(parents=True)
        (unfinished / "inner" / "file").write_text("content")
    written = [path, path / "inner", path / "inner" / "file"]
    assert synced == {
        **{each.stat().st_ino: False for each in written},
        tmp_path.stat().st_ino: True,  # the name itself
    }
    assert next_descriptor() == expected


def test_one_at_a_time_holds_the_lock_of_a_folder(tmp_path):
    order = []

    def second():
        with folder_lock(tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    with folder_lock(tmp_path):
        with pytest.raises(BlockingIOError), folder_lock(tmp_path, wait=False):
            pass
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    with folder_lock(tmp_path, wait=False):
        pass


def test_checksums_are_those_of_sha256sum_and_find_each_damaged_file(tmp_path):
    for name in ("a", "two  spaces", "inner/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for _ in range(2):  # the file of checksums does not contain itself
        write_checksums(tmp_path, "checksums")
        comment, *lines = (tmp_path / "checksums").read_text().splitlines()
        names = ["a", "inner/b", "two  spaces"]
        assert lines == [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}" for name in names]
        assert comment.startswith("# ")
        assert damaged_files(tmp_path, "checksums") == []
    (tmp_path / "two  spaces").write_text("changed")
    (tmp_path / "inner" / "b").unlink()
    assert damaged_files(str(tmp_path), "checksums") == [
        "inner/b is missing",
        "two  spaces is damaged: its content has changed since it was written",
    ]
    content = (tmp_path / "checksums").read_bytes()
    (tmp_path / "checksums").write_bytes(content[:-1])
    assert damaged_files(tmp_path, "checksums") == [
        "checksums is damaged: its content has changed since it was written"
    ]
    (tmp_path / "checksums").unlink()
    [problem] = damaged_files(tmp_path, "checksums")
    assert problem.startswith("checksums is missing")
