"""Removing files and folders."""

from keras_gen._files import remove


def test_files_and_folders_are_removed_by_strings_and_paths(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path in (str(tmp_path / "folder"), tmp_path / "file", str(tmp_path / "never there")):
        remove(path)
    assert not list(tmp_path.iterdir())
