from keras_gen._files import remove


def test_a_file_or_a_folder_is_removed_by_any_path_to_it(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path in (str(tmp_path / "folder"), tmp_path / "file", str(tmp_path / "never there")):
        remove(path)
    assert not list(tmp_path.iterdir())
