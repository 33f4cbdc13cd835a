"""Files of another user of this machine."""

import os
from pathlib import Path

import pytest


def give_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder and its files those of another user, whoever runs the tests."""
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
