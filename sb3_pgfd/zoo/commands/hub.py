"""What is changed in the RL Zoo's commands for the Hugging Face hub."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sb3_pgfd.zoo.registration import ALGORITHMS
from sb3_pgfd.zoo.replacing import replaced

_IN_MODEL_CARDS = {"python -m rl_zoo3.": "python -m sb3_pgfd.", "pip install rl_zoo3": 'pip install "sb3-pgfd[zoo]"'}


@contextmanager
def model_card_with_our_commands(options: argparse.Namespace) -> Iterator[None]:
    """
    Name this package's commands in the model card: the Zoo's do not know its algorithms.

    :param options: With ``algo``
    """
    import huggingface_hub.repocard

    metadata_save = huggingface_hub.repocard.metadata_save

    def save(path: Path, metadata: dict[str, Any]) -> None:
        if options.algo in ALGORITHMS:
            card = path.read_text(encoding="utf-8")
            for zoos, ours in _IN_MODEL_CARDS.items():
                card = card.replace(zoos, ours)
            path.write_text(card, encoding="utf-8")
        metadata_save(path, metadata)

    with replaced(huggingface_hub.repocard, "metadata_save", save):
        yield


@contextmanager
def metadata_for_the_zoo() -> Iterator[None]:
    """
    The Zoo takes the function ``generate_metadata``, which returns a dict, from huggingface_sb3. Newer versions have made it
    private, and it returns an object.
    """
    # The package has a function of the same name
    module = importlib.import_module("huggingface_sb3.push_to_hub")
    if hasattr(module, "generate_metadata"):
        yield
        return

    def generate_metadata(*arguments: Any) -> dict[str, Any]:
        return module._generate_metadata(*arguments).to_dict()

    with replaced(module, "generate_metadata", generate_metadata):
        yield


@contextmanager
def optional_statistics(_: argparse.Namespace) -> Iterator[None]:
    """
    The Zoo takes an ``HTTPError`` of ``requests`` for the sign that a repository has no statistics of ``VecNormalize``, but
    newer versions of the hub's library have another HTTP library, and errors of their own.
    """
    from huggingface_hub.errors import EntryNotFoundError
    from requests.exceptions import HTTPError

    huggingface_sb3 = importlib.import_module("huggingface_sb3")
    load_from_hub = huggingface_sb3.load_from_hub

    def load(repo_id: str, filename: str) -> str:
        try:
            return load_from_hub(repo_id, filename)
        except EntryNotFoundError as error:
            if filename != "vec_normalize.pkl":
                raise
            raise HTTPError(str(error)) from error

    with replaced(huggingface_sb3, "load_from_hub", load):
        yield
