"""Files and folders that are there whole or not at all."""

import gc
import os
from pathlib import Path

import pytest

from sb3_pgfd.utils.files import hold, refuse_existing, write_whole


def write(path: Path, text: str, overwrite: bool = False, folder: bool = False) -> None:
    with write_whole(path, overwrite, folder) as temporary:
        (temporary / "a" if folder else temporary).write_text(text)


def read(path: Path) -> str:
    return (path / "a" if path.is_dir() else path).read_text()


KINDS = pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])


@KINDS
def test_what_was_written_is_there_and_nothing_else(folder: bool, tmp_path: Path):
    write(tmp_path / "b" / "c", "text", folder=folder)
    assert read(tmp_path / "b" / "c") == "text"
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["c"]


@KINDS
def test_nothing_is_there_before_all_is_written(folder: bool, tmp_path: Path):
    with write_whole(tmp_path / "c", folder=folder) as temporary:
        assert not (tmp_path / "c").exists()
        assert temporary.parent == tmp_path
        assert temporary.is_dir() == folder
        assert temporary.name.startswith(".c-")
    assert (tmp_path / "c").exists()


@KINDS
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_nothing(folder: bool, error: type[BaseException], tmp_path: Path):
    def write_half() -> None:
        with write_whole(tmp_path / "c", folder=folder) as temporary:
            (temporary / "a" if folder else temporary).write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


@KINDS
def test_a_write_that_fails_keeps_what_was_there(folder: bool, tmp_path: Path):
    write(tmp_path / "c", "old", folder=folder)
    with pytest.raises(ZeroDivisionError), write_whole(tmp_path / "c", overwrite=True, folder=folder):
        _ = 1 // 0
    assert read(tmp_path / "c") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@KINDS
def test_what_is_there_is_replaced_only_if_asked_to(folder: bool, tmp_path: Path):
    write(tmp_path / "c", "old", folder=folder)
    with pytest.raises(
        FileExistsError, match=r"c: found a (file|folder), expected none: --force \(in Python overwrite=True\)"
    ):
        write(tmp_path / "c", "new", folder=folder)
    assert read(tmp_path / "c") == "old"
    write(tmp_path / "c", "new", overwrite=True, folder=folder)
    assert read(tmp_path / "c") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_folder_that_is_replaced_keeps_none_of_its_files(tmp_path: Path):
    write(tmp_path / "c", "old", folder=True)
    (tmp_path / "c" / "other").touch()
    write(tmp_path / "c", "new", overwrite=True, folder=True)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["a"]


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path):
    write(tmp_path / "c", "old", folder=True)
    with pytest.raises(OSError, match="directory"):
        write(tmp_path / "c", "new", overwrite=True)
    assert read(tmp_path / "c") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path):
    write(tmp_path / "c", "old")
    with pytest.raises(OSError, match="irectory"):
        write(tmp_path / "c", "new", overwrite=True, folder=True)
    assert read(tmp_path / "c") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@KINDS
def test_a_link_is_replaced_and_not_followed(folder: bool, tmp_path: Path):
    write(tmp_path / "target", "old", folder=folder)
    (tmp_path / "c").symlink_to(tmp_path / "target")
    write(tmp_path / "c", "new", overwrite=True, folder=folder)
    assert read(tmp_path / "target") == "old"
    assert read(tmp_path / "c") == "new"
    assert not (tmp_path / "c").is_symlink()


def test_a_link_to_nowhere_is_something_too(tmp_path: Path):
    (tmp_path / "c").symlink_to(tmp_path / "missing")
    with pytest.raises(FileExistsError, match="c: found a file"):
        refuse_existing(tmp_path / "c", overwrite=False)
    refuse_existing(tmp_path / "c", overwrite=True)
    refuse_existing(tmp_path / "other", overwrite=False)


@KINDS
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_the_mode_obeys_the_umask(folder: bool, umask: int, tmp_path: Path):
    before = os.umask(umask)
    try:
        write(tmp_path / "c", "text", folder=folder)
    finally:
        os.umask(before)
    assert (tmp_path / "c").stat().st_mode & 0o777 == (0o777 if folder else 0o666) & ~umask


def test_what_only_garbage_holds_is_free(tmp_path: Path):
    gc.disable()
    try:
        # A callback of a learning that crashed holds itself through learn()'s local variables
        garbage: list[object] = [hold(tmp_path / ".lock", "a recording")]
        garbage.append(garbage)
        with pytest.raises(FileExistsError, match="a recording: found another process that writes to it"):
            hold(tmp_path / ".lock", "a recording")
        del garbage
        # Waiting would never end otherwise
        hold(tmp_path / ".lock", "a recording", wait=True).close()
    finally:
        gc.enable()
