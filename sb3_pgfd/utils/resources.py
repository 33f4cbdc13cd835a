"""The files that ship with the package: tuned hyperparameters and packaged demonstrations."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def _data_dir(name: str) -> Path:
    """A wheel carries the folder inside the package; in a checkout (editable install) it lies beside the package."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


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
