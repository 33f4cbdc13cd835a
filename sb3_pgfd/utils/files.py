"""Writing files whole or not at all, and the files that ship with the package."""

import difflib
import gc
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:
    # Windows: folders are not locked there
    fcntl = None  # type: ignore[assignment]

_PACKAGE = Path(__file__).resolve().parent.parent


def refuse_existing(path: Path, overwrite: bool) -> None:
    """
    :param path: File or folder to be written
    :param overwrite: Whether an existing one may be replaced
    :raises FileExistsError: If there is one that may not be replaced
    """
    if not overwrite and (path.exists() or path.is_symlink()):
        kind = "a folder" if path.is_dir() else "a file"
        raise FileExistsError(f"{path}: found {kind}, expected none: --force (in Python overwrite=True) replaces it")


def near(path: Path, others: Iterable[str] = ()) -> str:
    """
    :param path: Which does not exist
    :param others: Names that could be meant besides files
    :return: The end of a message that names the files and names most like it, or nothing
    """
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        # A folder on the way may be misspelt as well
        path, folder = folder, folder.parent
    # Entries of a folder that cannot be listed are of no help
    with suppress(OSError):
        names = {str(other): str(other) for other in others}
        names |= {item.name: str(folder / item.name) for item in folder.iterdir() if not item.name.startswith(".")}
        close = difflib.get_close_matches(path.name, names, n=3)
        return f". Did you mean {' or '.join(names[name] for name in close)}?" if close else ""
    return ""


@contextmanager
def write_whole(path: Path, overwrite: bool = False, folder: bool = False) -> Iterator[Path]:
    """
    Yield a temporary path beside ``path`` to write to. Leaving the block syncs it to disk and renames it; an exception
    removes it. So neither a crash nor a power cut leaves half a file. Only a power cut or a kill leaves the hidden temporary
    file (``.name-*.tmp``).

    :param path: Final path of the file or folder
    :param overwrite: Whether an existing one may be replaced
    :param folder: Whether to write a folder; replacing one takes two renames, and the path does not exist between them
    :raises FileExistsError: If there is one that may not be replaced
    """
    refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp and mkdtemp create private ones; give them the mode of open() and mkdir()
    umask = os.umask(0)
    os.umask(umask)
    if folder:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent))
        temporary.chmod(0o777 & ~umask)
    else:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o666 & ~umask)
    try:
        yield temporary
        for item in (*temporary.rglob("*"), temporary):
            sync(item)
        if folder and path.is_dir() and not path.is_symlink():
            with tempfile.TemporaryDirectory(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent) as replaced:
                os.replace(path, Path(replaced) / path.name)
                os.replace(temporary, path)
        else:
            if folder and path.is_symlink():
                # A folder does not replace a link
                path.unlink()
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary) if folder else temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_stale(folder: Path) -> None:
    """Remove what a killed :func:`write_whole` left in a folder. Only the holder of the folder may do so, see :func:`hold`."""
    for path in folder.glob(".*.tmp"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


class Lock:
    """
    Something that only one process may use, see :func:`hold`.

    :param handle: Of the open file or folder
    """

    def __init__(self, handle: int):
        self._handle: int | None = handle

    def close(self) -> None:
        """Let others have it."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None

    __del__ = close

    def __reduce__(self) -> str:
        raise TypeError("a lock is of its process")


def hold(path: Path, what: str, wait: bool = False) -> Lock:
    """
    Hold something that only one process may use. It is free again when the lock is closed, and when the process ends,
    however it ends.

    :param path: Of a folder, or of a lock file, which is created if it is missing, and stays
    :param what: Is held, for the message
    :param wait: Whether to wait until it is free
    :raises FileExistsError: If another process holds it
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(handle := os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666))
    if not _try_to_lock(handle):
        # Callbacks hold the local variables of learn(), themselves among these: what a crashed learning held is garbage
        gc.collect()
        if not _try_to_lock(handle, wait):
            lock.close()
            found = f"{what}: found another process that writes to it, expected none"
            raise FileExistsError(f"{found}: wait until it ends, or end it")
    return lock


def _try_to_lock(handle: int, wait: bool = False) -> bool:
    """:return: Whether an open file or folder is locked now; always on systems without such locks"""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def sync(path: Path) -> None:
    """
    Wait until a file, or the list of files in a folder, is on disk.

    :param path: An existing file or folder
    """
    # Windows cannot open folders, and writes their lists to disk by itself
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _data_dir(name: str) -> Path:
    """A wheel carries the folder inside the package; in a checkout (editable install) it lies beside the package."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def install(extra: str) -> str:
    """:return: The command that installs an extra of this package; it is quoted, as some shells read brackets"""
    checkout = _PACKAGE.parent
    is_checkout = (checkout / "pyproject.toml").is_file()
    return f'pip install -e "{checkout}[{extra}]"' if is_checkout else f'pip install "sb3-pgfd[{extra}]"'


def hyperparams_file(algo: str) -> Path:
    """
    :param algo: Name of the algorithm in the RL Zoo, e.g. ``"ddpgfd"``
    :return: Path of its tuned hyperparameters
    """
    return _data_dir("hyperparams") / f"{algo}.yml"


def packaged_demonstrations() -> dict[str, Path]:
    """
    :return: Path of each packaged demonstration file by its name, e.g. ``"Pendulum-v1"``
    """
    return {path.stem: path for path in sorted(_data_dir("demos").glob("*.npz"))}
