"""Call ``sb3-pgfd demos``, or another command, in this process or as installed."""

import json
import subprocess
import sys
from typing import Any

import pytest

from sb3_pgfd.cli import main


def run(*arguments: object, command: str = "demos") -> int:
    return main([command, *map(str, arguments)])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, command: str = "demos") -> str:
    """:return: What a command that cannot do its work says on standard error; it says nothing else"""
    assert run(*arguments, command=command) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sb3-pgfd: ")
    return captured.err


def misused(capsys: pytest.CaptureFixture[str], *arguments: object, command: str = "demos") -> str:
    with pytest.raises(SystemExit) as stop:
        run(*arguments, command=command)
    assert stop.value.code == 2
    return capsys.readouterr().err


def result(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """:return: The one JSON object that the command prints"""
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def installed(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "sb3_pgfd", "demos", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
