"""``sb3-pgfd demos convert|merge|filter|split``."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import fails, misused, result, run

import sb3_pgfd
from sb3_pgfd import Demonstrations
from sb3_pgfd.cli import main
from sb3_pgfd.cli.arguments import named_value


def returns(path: Path | str) -> list[float]:
    return Demonstrations.load(path).episode_returns.tolist()


def test_convert_applies_the_options(capsys: pytest.CaptureFixture[str], toy: Path, tmp_path: Path):
    out = tmp_path / "out"
    options = ("--done-means", "truncated", "--min-return", 1, "--episodes", 3, "--seed", 0)
    written = result(
        capsys, "convert", toy, out, "--observation-keys", "joints", "--action-low", "-2,-4", "--action-high", "2,4", *options
    )
    assert written["path"] == f"{out}.npz"
    assert written["n_episodes"] == 3
    converted = Demonstrations.load(written["path"])
    assert written == {
        "path": f"{out}.npz",
        "n_episodes": 3,
        "n_transitions": len(converted),
        "mean_return": converted.episode_returns.mean(),
        "success_rate": pytest.approx(np.mean([number % 2 == 0 for number in converted.episode_returns])),
    }
    assert isinstance(converted.observations, np.ndarray)
    assert converted.actions[0].tolist()[0] == -2.0
    assert converted.actions[-1].tolist()[1] == 2.0
    assert not converted.terminated.any()
    assert converted.episode_returns.min() >= 1


@pytest.mark.parametrize(
    ("keys", "flatten", "expected"),
    [
        ("joints,goal", False, {"goal": (1,), "joints": (2,)}),
        ("arm=joints,target=goal", False, {"arm": (2,), "target": (1,)}),
        ("goal,joints", True, (3,)),
    ],
)
def test_convert_chooses_observations(keys: str, flatten: bool, expected: Any, toy: Path, tmp_path: Path):
    options = ["--observation-keys", keys, *["--flatten-observations"] * flatten]
    assert run("convert", toy, tmp_path / "out.npz", *options) == 0
    found = Demonstrations.load(tmp_path / "out.npz").observations
    shapes = found.shape[1:] if isinstance(found, np.ndarray) else {key: array.shape[1:] for key, array in found.items()}
    assert shapes == expected


def test_options_of_a_format_are_handed_on(capsys: pytest.CaptureFixture[str], tutorial: Path, tmp_path: Path):
    out = tmp_path / "out.npz"
    assert run("convert", tutorial, out, "--option", "done_means=terminated", "--option", "n_episodes=1") == 0
    assert f"{out}: 1 episode, 3 transitions, mean return 3" in capsys.readouterr().out
    assert Demonstrations.load(out).terminated.tolist() == [False, False, True]
    assert "knows only" in fails(capsys, "convert", tutorial, tmp_path / "b", "--option", "mask=train")
    assert "expected name=value" in misused(capsys, "convert", tutorial, tmp_path / "b", "--option", "mask")
    assert not (tmp_path / "b.npz").exists()


def test_minari_is_written_and_read_by_its_id(
    capsys: pytest.CaptureFixture[str], toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    written = result(capsys, "convert", toy, "minari:toy/expert-v0")
    assert written["path"] == str(tmp_path / "minari" / "toy" / "expert-v0")
    assert run("convert", "minari:toy/expert-v0", tmp_path / "back") == 0
    assert returns(tmp_path / "back.npz") == returns(toy)
    capsys.readouterr()
    assert "--force" in fails(capsys, "convert", toy, "minari:toy/expert-v0")
    assert run("filter", toy, "minari:toy/expert-v0", "--episodes", 2, "--force") == 0
    assert run("merge", tmp_path / "folder-v1", "minari:toy/expert-v0", toy, "--format", "minari") == 0
    capsys.readouterr()
    assert returns(tmp_path / "folder-v1") == [0, 1, 0, 1, 2, 3, 4]
    assert "expected letters, digits" in fails(capsys, "convert", toy, "minari:../up-v0")
    assert "folder-v1: found a folder" in fails(capsys, "convert", toy, tmp_path / "folder-v1", "--format", "minari")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("mask=train", "mask", "train"),
        ("trusted=true", "trusted", True),
        ("env=None", "env", None),
        ("final_reward=1.0", "final_reward", 1.0),
        ("g:9", "g", 9),
        ("path=/a=b:c", "path", "/a=b:c"),
        ("broken=[1", "broken", "[1"),
        ("code=__import__('os')", "code", "__import__('os')"),
    ],
)
def test_values_are_what_python_reads_and_text_otherwise(text: str, name: str, value: Any):
    assert named_value(text) == (name, value)


def test_the_parts_of_a_split_have_two_names(capsys: pytest.CaptureFixture[str], toy: Path, tmp_path: Path):
    with pytest.raises(SystemExit):
        run("split", toy, tmp_path / "part", tmp_path / "part.npz", "--first", 2)
    assert "for both parts, expected two names" in capsys.readouterr().err


def test_nothing_is_replaced_without_force(capsys: pytest.CaptureFixture[str], toy: Path, tmp_path: Path):
    there = tmp_path / "there.npz"
    there.write_text("mine")
    for arguments in (
        ("convert", toy, tmp_path / "there"),
        ("merge", there, toy, toy),
        ("filter", toy, there, "--episodes", 2),
        ("split", toy, tmp_path / "new.npz", there, "--first", 2),
        # Before the source is looked at
        ("convert", tmp_path / "no-such-file", there),
    ):
        assert f"{there}: found a file, expected none: --force (in Python overwrite=True)" in fails(capsys, *arguments)
    assert there.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.npz", "toy.npz"]
    assert run("convert", toy, there, "--force") == 0
    assert returns(there) == returns(toy)


def test_a_file_can_be_replaced_by_what_is_made_of_it(toy: Path):
    assert run("filter", toy, toy, "--successful-only", "--force") == 0
    assert returns(toy) == [0, 2, 4]


def test_merge_joins_and_then_chooses(capsys: pytest.CaptureFixture[str], toy: Path, tmp_path: Path):
    out = tmp_path / "out.npz"
    assert result(capsys, "merge", out, toy, toy)["n_episodes"] == 10
    assert returns(out) == [0, 1, 2, 3, 4] * 2
    options = ("--min-return", 3, "--episodes", 3, "--done-means", "truncated", "--force")
    assert result(capsys, "merge", out, toy, toy, *options)["success_rate"] == pytest.approx(1 / 3)
    assert returns(out) == [3, 4, 3]
    assert "merge: Pendulum-v1: found shapes" in fails(capsys, "merge", tmp_path / "b", toy, "Pendulum-v1")


def test_filter_keeps_what_is_asked_for(capsys: pytest.CaptureFixture[str], toy: Path, tmp_path: Path):
    assert run("filter", toy, tmp_path / "good", "--min-return", "1.5", "--successful-only") == 0
    assert "success rate 100%" in capsys.readouterr().out
    assert returns(tmp_path / "good.npz") == [2, 4]
    assert "expected at least 1" in fails(capsys, "filter", toy, tmp_path / "none", "--min-return", 5)
    assert "found no choice of episodes" in misused(capsys, "filter", toy, tmp_path / "none", "--seed", 3)
    assert not (tmp_path / "none.npz").exists()


@pytest.mark.parametrize(("first", "expected"), [("2", 2), ("0.8", 4), ("0.01", 1)])
def test_split_puts_each_episode_into_one_part(
    capsys: pytest.CaptureFixture[str], first: str, expected: int, toy: Path, tmp_path: Path
):
    parts = result(capsys, "split", toy, tmp_path / "a", tmp_path / "b", "--first", first)["parts"]
    assert [part["n_episodes"] for part in parts] == [expected, 5 - expected]
    assert returns(parts[0]["path"]) + returns(parts[1]["path"]) == [0, 1, 2, 3, 4]
    assert run("split", toy, tmp_path / "a", tmp_path / "b", "--first", first, "--seed", 1, "--force") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    chosen = returns(tmp_path / "a.npz")
    assert len(chosen) == expected
    assert sorted(chosen + returns(tmp_path / "b.npz")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("first", ["2.5", "many"])
def test_split_refuses_what_is_no_number_of_episodes(
    capsys: pytest.CaptureFixture[str], first: str, toy: Path, tmp_path: Path
):
    assert "--first" in misused(capsys, "split", toy, tmp_path / "a", tmp_path / "b", "--first", first)


def test_split_needs_two_parts(capsys: pytest.CaptureFixture[str], toy: Path, tmp_path: Path):
    assert "expected two names" in misused(capsys, "split", toy, tmp_path / "a", tmp_path / "a", "--first", 2)
    assert "expected 1 to 4" in fails(capsys, "split", toy, tmp_path / "a", tmp_path / "b", "--first", 5)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("paint", "Pendulum-v1"),
        ("convert", "Pendulum-v1", "out.npz", "--action-low", "low"),
        ("convert", "Pendulum-v1", "out.npz", "--observation-keys", "a=b,c"),
    ],
)
def test_what_is_no_command_is_explained(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]):
    assert misused(capsys, *arguments).startswith("usage: sb3-pgfd demos")


def test_all_commands_are_listed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if re.match(r"    [a-z]", line)]
    assert names == ["demos", "compare", "study", "train", "enjoy", "push-to-hub", "load-from-hub", "zoo"]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"sb3-pgfd {sb3_pgfd.__version__}\n"


def test_missing_demonstrations_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert "found no such file" in fails(capsys, "show", tmp_path / "missing.npz")


def test_a_reader_who_has_seen_enough_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    # As with `| head -1`
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run("show", "Pendulum-v1") == 1
    assert capsys.readouterr().err == ""
