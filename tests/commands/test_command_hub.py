"""``push-to-hub`` and ``load-from-hub`` with a hub of our own."""

import argparse
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from command import ENV_ID, call, fails, frames, refused, run
from fake_hub import FakeHub, fake_hub
from huggingface_sb3 import EnvironmentName

from sb3_pgfd.zoo.hub import load_from_hub

LOAD = ["--algo", "ddpgfd", "--env", ENV_ID, "-orga", "somebody", "-f", "loaded"]
PUSH = ["--algo", "ddpgfd", "--env", ENV_ID, "-orga", "somebody", "-f", "logs"]


@pytest.fixture(scope="module")
def pushed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """A hub that the run was pushed to, with a video, by somebody who has no ffmpeg."""
    nothing = tmp_path_factory.mktemp("nothing")
    with fake_hub() as hub:
        run(trained, "push-to-hub", *PUSH, "-n", "30", **hub.variables, HF_HOME=str(nothing), PATH=str(nothing))
        yield hub


def test_push_makes_the_repository_and_fills_it(pushed: FakeHub, tmp_path: Path) -> None:
    assert [(made["organization"], made["name"]) for made in pushed.created] == [("somebody", "ddpgfd-Pendulum-v1")]
    assert ("POST", "/api/models/somebody/ddpgfd-Pendulum-v1/commit/main") in pushed.requests
    expected = {"ddpgfd-Pendulum-v1.zip", "config.yml", "args.yml", "env_kwargs.yml", "results.json", "train_eval_metrics.zip"}
    assert set(pushed.files) == {*expected, "README.md", "replay.mp4"}
    assert yaml.safe_load(pushed.files["env_kwargs.yml"]) == {}
    (tmp_path / "replay.mp4").write_bytes(pushed.files["replay.mp4"])
    assert len(frames(tmp_path / "replay.mp4", stride=5)) == 31


def test_the_model_card_names_commands_that_know_the_algorithm_and_its_return(pushed: FakeHub) -> None:
    card = pushed.files["README.md"].decode()
    assert "sb3-pgfd load-from-hub --algo ddpgfd --env Pendulum-v1 -orga somebody -f logs/" in card
    assert 'pip install "sb3-pgfd[zoo]"' in card
    # As the Zoo reads it for its table of models
    (model,) = yaml.safe_load(card.split("---")[1])["model-index"]
    (result,) = model["results"]
    assert (model["name"].lower(), result["dataset"]["name"]) == ("ddpgfd", ENV_ID)
    measured = json.loads(pushed.files["results.json"])
    assert result["metrics"][0]["value"] == f"{measured['mean_reward']:.2f} +/- {measured['std_reward']:.2f}"


def test_a_loaded_agent_plays_as_the_pushed_one(
    pushed: FakeHub, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It has no statistics of VecNormalize, which is no error
    variables = {**pushed.variables, "HF_HOME": str(tmp_path / "cache")}
    run(tmp_path, "load-from-hub", *LOAD, **variables)
    loaded = tmp_path / "loaded" / "ddpgfd" / f"{ENV_ID}_1"
    names = {"evaluations.npz", "progress.csv", "0.monitor.csv", ENV_ID, f"{ENV_ID}.zip"}
    assert {path.name for path in loaded.iterdir()} == names
    message = fails(tmp_path, "load-from-hub", *LOAD, "--exp-id", "1", **variables)
    assert "found a folder, expected none" in message
    returns = []
    for where, logs in ((tmp_path, "loaded"), (trained, "logs")):
        monkeypatch.chdir(where)
        arguments = ["--env", ENV_ID, "-n", "200", "--no-render", "--seed", "5", "-f", logs]
        returns.append(re.findall(r"Episode Reward: (\S+)", call(capsys, "enjoy", *arguments)))
    assert returns[0] == returns[1] != []


def test_a_repository_without_a_model_is_refused(tmp_path: Path) -> None:
    with fake_hub() as hub:
        message = fails(tmp_path, "load-from-hub", *LOAD, **hub.variables, HF_HOME=str(tmp_path))
    assert "ddpgfd-Pendulum-v1.zip" in message
    assert not (tmp_path / "loaded").exists()


def test_a_network_that_is_down_is_one_line(tmp_path: Path) -> None:
    # With a hub that is not there it would try again for half a minute
    variables = {"HF_HUB_OFFLINE": "1", "TRUST_REMOTE_CODE": "True", "HF_HOME": str(tmp_path)}
    message = fails(tmp_path, "load-from-hub", *LOAD, **variables)
    assert "sb3-pgfd load-from-hub: the Hugging Face hub cannot be reached" in message


def test_nobody_trusts_a_model_without_knowing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRUST_REMOTE_CODE", raising=False)
    assert "set the environment variable `TRUST_REMOTE_CODE`" in refused(capsys, "load-from-hub", *LOAD)


@pytest.mark.parametrize("force", [False, True])
def test_without_a_number_no_other_runs_are_replaced(force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "logs" / "ddpgfd" / "Pendulum-v1_1" / "kept.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("a run")
    with zipfile.ZipFile(tmp_path / "file", "w"):
        pass
    monkeypatch.setattr("huggingface_sb3.load_from_hub", lambda repo_id, filename: str(tmp_path / "file"))
    monkeypatch.setattr("huggingface_hub.HfApi.file_exists", lambda *_: False)
    options = {"algo": "ddpgfd", "env": EnvironmentName(ENV_ID), "folder": str(tmp_path / "logs"), "exp_id": -1}
    with pytest.raises(FileExistsError):
        load_from_hub(argparse.Namespace(**options, organization="somebody", repo_name=None, force=force))
    assert kept.read_text() == "a run"
