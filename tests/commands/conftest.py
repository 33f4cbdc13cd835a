"""A finished run that several tests look at."""

import sys
from pathlib import Path

import pytest
from command import TRAIN

from sb3_pgfd.zoo.commands import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run of 400 steps, made in this process."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [])
        assert main("train", TRAIN) == 0
    return folder
