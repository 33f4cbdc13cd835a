"""Where Minari keeps its datasets, and what it calls them: ``<root>/<namespace>/<name>-v<version>``."""

import os
import re
from pathlib import Path

from sb3_pgfd.demonstrations.errors import DemonstrationsError

PREFIX = "minari:"
DATA_FOLDER = "data"
MAIN_FILE = "main_data.hdf5"
METADATA_FILE = "metadata.json"
_MAX_LOOK = 2**20
# Minari's own grammar: no dots, so no id leads out of the root
NAME = re.compile(r"[-_\w]+?-v\d+")
_ID = re.compile(r"(?:[-_\w][-_\w/]*[-_\w]+/)?[-_\w]+?-v\d+")


def datasets_root() -> Path:
    """:return: The folder of all datasets: ``$MINARI_DATASETS_PATH``, or ``~/.minari/datasets``"""
    named = os.environ.get("MINARI_DATASETS_PATH")
    return Path(named) if named is not None else Path.home() / ".minari" / "datasets"


def is_id(text: str) -> bool:
    """:param text: Whether this is the id of a dataset, such as ``D4RL/door/human-v2``"""
    return _ID.fullmatch(text) is not None


def dataset_folder(dataset_id: str) -> Path:
    """
    :param dataset_id: Such as ``D4RL/door/human-v2``
    :return: Its folder, which need not exist
    :raises DemonstrationsError: If this is no id
    """
    if not is_id(dataset_id):
        raise DemonstrationsError(
            f"{dataset_id!r}: found no id of a Minari dataset, expected letters, digits, '-' and '_' that end in a version: "
            "'name-v0' or 'namespace/name-v0'"
        )
    return datasets_root() / dataset_id


def find_dataset(dataset_id: str) -> Path:
    """
    :param dataset_id: Of a dataset on this machine
    :return: Its folder
    :raises DemonstrationsError: If there is none
    """
    folder = dataset_folder(dataset_id)
    if not folder.is_dir():
        raise DemonstrationsError(
            f"{PREFIX}{dataset_id}: found no folder {folder}, expected one: 'minari download {dataset_id}' makes it, and "
            "MINARI_DATASETS_PATH says where Minari's datasets are"
        )
    return folder


def data_folder(path: Path) -> Path | None:
    """
    :param path: A folder that exists
    :return: The folder in it that holds a dataset's metadata and arrays, perhaps itself; None: this is no Minari dataset
    """
    for folder in (path / DATA_FOLDER, path):
        if (folder / MAIN_FILE).is_file():
            return folder
        record = folder / METADATA_FILE
        if record.is_file():
            with record.open("rb") as file:
                if b'"data_format"' in file.read(_MAX_LOOK):
                    return folder
    return None
