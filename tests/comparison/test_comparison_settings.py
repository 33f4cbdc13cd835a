"""Reading ``args.yml`` and ``config.yml`` without running what they name."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import yaml

from sb3_pgfd.comparison import ComparisonError
from sb3_pgfd.comparison.settings import read_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "args.yml"
    path.write_text(text)
    return path


def test_an_ordered_dict_is_read(tmp_path: Path):
    values = {"algo": "sac", "seed": 3, "policy_kwargs": OrderedDict(net_arch=[64, 64])}
    path = write(tmp_path, yaml.dump(OrderedDict(values)))
    assert "OrderedDict" in path.read_text()
    assert read_settings(path) == {"algo": "sac", "seed": 3, "policy_kwargs": {"net_arch": [64, 64]}}


def test_an_empty_ordered_dict_is_read(tmp_path: Path):
    assert read_settings(write(tmp_path, yaml.dump(OrderedDict()))) == {}


def test_objects_of_other_classes_are_nothing(tmp_path: Path):
    values = {"a": argparse.Namespace(x=1), "b": np.float64(1.0), "c": (1, 2), "d": argparse.ArgumentParser, "e": "kept"}
    assert read_settings(write(tmp_path, yaml.dump(values))) == {"a": None, "b": None, "c": None, "d": None, "e": "kept"}


@pytest.mark.parametrize(
    "tag", ["object/apply:os.system", "object/new:os.system", "object/apply:subprocess.getoutput", "object:os.system"]
)
def test_nothing_is_executed(tag: str, tmp_path: Path):
    marker = tmp_path / "executed"
    path = write(tmp_path, f"algo: sac\nenv: !!python/{tag} ['touch {marker}']\nother: !!python/name:os.system\n")
    assert read_settings(path) == {"algo": "sac", "env": None, "other": None}
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "algo: [",
        "",
        "- a\n- b",
        "text",
        "!!python/object/apply:os.system ['true']",
        "!!python/object/apply:collections.OrderedDict\n- 3",
        "!!python/object/apply:collections.OrderedDict\n- - a\n- - b",
        "!!python/object/apply:collections.OrderedDict {args: [[[a, 1]]]}",
        "when: 2024-99-99",
        "\x00",
        "[" * 1000,
    ],
)
def test_a_file_with_something_else_is_refused_by_name(text: str, tmp_path: Path):
    with pytest.raises(ComparisonError, match=r"args\.yml: found .*expected"):
        read_settings(write(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    (tmp_path / "args.yml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ComparisonError, match=r"args\.yml: found a file that cannot be read"):
        read_settings(tmp_path / "args.yml")
