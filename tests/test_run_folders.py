"""Reading run folders without running anything, and whose files are loaded."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import yaml
from foreign_files import give_away

from sb3_pgfd.utils.run_folders import UnknownObject, UntrustedFileError, plain, read_settings, require_trust


def write_settings(folder: Path, text: str) -> Path:
    path = folder / "args.yml"
    path.write_text(text)
    return path


def test_an_ordered_dict_is_read(tmp_path: Path):
    values = {"algo": "sac", "seed": 3, "policy_kwargs": OrderedDict(net_arch=[64, 64])}
    path = write_settings(tmp_path, yaml.dump(OrderedDict(values)))
    assert "OrderedDict" in path.read_text()
    assert read_settings(path) == {"algo": "sac", "seed": 3, "policy_kwargs": {"net_arch": [64, 64]}}
    assert read_settings(write_settings(tmp_path, yaml.dump(OrderedDict()))) == {}


def test_objects_of_other_classes_are_named_and_not_made(tmp_path: Path):
    values = {"a": argparse.Namespace(x=1), "b": np.float64(1.0), "c": (1, 2), "d": argparse.ArgumentParser, "e": "kept"}
    found = read_settings(write_settings(tmp_path, yaml.dump(values)))
    assert (found["c"], found["e"]) == ((1, 2), "kept")
    assert all(isinstance(found[name], UnknownObject) for name in "abd")
    assert repr(found["a"]) == "an object python/object:argparse.Namespace"
    # Two seeds of one setting have the same settings
    assert found == read_settings(tmp_path / "args.yml")


@pytest.mark.parametrize("tag", ["object/apply:os.system", "object/new:os.system", "object:os.system"])
def test_nothing_is_executed(tag: str, tmp_path: Path):
    marker = tmp_path / "executed"
    text = f"algo: sac\nenv: !!python/{tag} ['touch {marker}']\nother: !!python/name:os.system\n"
    found = read_settings(write_settings(tmp_path, text))
    assert (found["algo"], type(found["env"]), type(found["other"])) == ("sac", UnknownObject, UnknownObject)
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "algo: [",
        "- a\n- b",
        "!!python/object/apply:collections.OrderedDict\n- 3",
        "!!python/object/apply:collections.OrderedDict {args: [[[a, 1]]]}",
        "when: 2024-99-99",
        "\x00",
        "\xff",
        "[" * 1000,
    ],
)
def test_a_file_with_something_else_is_refused_by_name(text: str, tmp_path: Path):
    (tmp_path / "args.yml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"args\.yml: found .*expected"):
        read_settings(tmp_path / "args.yml")


def test_the_zoos_text_for_a_mapping_is_read_without_evaluating_it(tmp_path: Path):
    assert plain("dict(norm_obs=False, clip_obs=5.0)", "normalize") == {"norm_obs": False, "clip_obs": 5.0}
    assert plain({"g": (1, [2.0])}, "env_kwargs") == {"g": (1, [2.0])}
    marker = tmp_path / "executed"
    for text in (f"dict(a=__import__('os').system('touch {marker}'))", "dict(a=1)()", "dict(a=", "dict([1])", "dict(**{})"):
        with pytest.raises(ValueError, match=r"normalize: found .*expected dict"):
            plain(text, "normalize")
    assert not marker.exists()
    with pytest.raises(ValueError, match=r"env_kwargs: found .*an object python/name:os.system"):
        plain({"a": [UnknownObject("python/name:os.system")]}, "env_kwargs")


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that another user has written."""
    path = tmp_path / "model.zip"
    path.write_text("")
    give_away(tmp_path, monkeypatch)
    return path


def test_a_file_of_another_user_is_loaded_only_if_trusted(foreign: Path):
    with pytest.raises(UntrustedFileError, match=r"model\.zip: found a file of the user .* pass --trust"):
        require_trust([foreign.with_name("none.zip"), foreign], trust=False)
    require_trust([foreign], trust=True)


def test_own_files_are_trusted(tmp_path: Path):
    (tmp_path / "model.zip").write_text("")
    require_trust([tmp_path / "model.zip", tmp_path / "none.zip"], trust=False)
