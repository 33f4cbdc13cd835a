"""``push-to-hub`` and ``load-from-hub`` with a hub of our own."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ENV_ID, fails, frames, refused, run, train
from fake_hub import FakeHub, fake_hub

LOAD = ["--algo", "ddpgfd", "--env", ENV_ID, "-orga", "somebody", "-f", "loaded"]
PUSH = ["--algo", "ddpgfd", "--env", ENV_ID, "-orga", "somebody", "-f", "logs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run."""
    folder = tmp_path_factory.mktemp("zoo")
    train(folder)
    return folder


@pytest.fixture(scope="module")
def pushed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """A hub that the run was pushed to, with a video, by somebody who has no ffmpeg."""
    nothing = tmp_path_factory.mktemp("nothing")
    with fake_hub() as hub:
        run(folder, "sb3-pgfd push-to-hub", *PUSH, "-n", "30", **hub.variables, HF_HOME=str(nothing), PATH=str(nothing))
        yield hub


def test_push_makes_the_repository_and_fills_it(pushed: FakeHub, tmp_path: Path) -> None:
    assert [(made["organization"], made["name"]) for made in pushed.created] == [("somebody", "ddpgfd-Pendulum-v1")]
    assert ("POST", "/api/models/somebody/ddpgfd-Pendulum-v1/commit/main") in pushed.requests
    assert {"ddpgfd-Pendulum-v1.zip", "config.yml", "args.yml", "env_kwargs.yml", "results.json"} <= set(pushed.files)
    (tmp_path / "replay.mp4").write_bytes(pushed.files["replay.mp4"])
    assert len(frames(tmp_path / "replay.mp4")) in (30, 31)


def test_the_model_card_names_commands_that_know_the_algorithm(pushed: FakeHub) -> None:
    card = pushed.files["README.md"].decode()
    assert "python -m sb3_pgfd.load_from_hub --algo ddpgfd --env Pendulum-v1 -orga somebody" in card
    assert 'pip install "sb3-pgfd[zoo]"' in card
    assert "python -m rl_zoo3" not in card
    assert "model-index" in card


def test_what_is_loaded_plays_as_what_was_pushed(pushed: FakeHub, folder: Path, tmp_path: Path) -> None:
    # It has no statistics of VecNormalize, which is no error
    output = run(tmp_path, "sb3-pgfd load-from-hub", *LOAD, **pushed.variables, HF_HOME=str(tmp_path))
    assert "No normalization file" in output
    assert (tmp_path / "loaded" / "ddpgfd" / f"{ENV_ID}_1" / "evaluations.npz").is_file()
    arguments = ["--env", ENV_ID, "-n", "200", "--no-render", "--seed", "5"]
    returns = [
        re.findall(r"Episode Reward: (\S+)", run(where, "enjoy", *arguments, "-f", logs, "--exp-id", "1"))
        for where, logs in ((tmp_path, "loaded"), (folder, "logs"))
    ]
    assert returns[0] == returns[1] != []


def test_a_repository_without_a_model_is_refused(tmp_path: Path) -> None:
    with fake_hub() as hub:
        message = fails(tmp_path, "load_from_hub", *LOAD, **hub.variables, HF_HOME=str(tmp_path))
    assert "ddpgfd-Pendulum-v1.zip" in message
    assert not (tmp_path / "loaded").exists()


def test_a_network_that_is_down_is_one_line(folder: Path, tmp_path: Path) -> None:
    # Nothing listens there
    down = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_nobody", "HF_HOME": str(tmp_path)}
    message = fails(folder, "push_to_hub", *PUSH, "--no-render", **down)
    assert "sb3-pgfd push-to-hub: the Hugging Face hub cannot be reached" in message
    # This one would try again for half a minute
    message = fails(folder, "load_from_hub", *LOAD, HF_HUB_OFFLINE="1", TRUST_REMOTE_CODE="True", HF_HOME=str(tmp_path))
    assert "sb3-pgfd load-from-hub: the Hugging Face hub cannot be reached" in message


def test_nobody_trusts_a_model_without_knowing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRUST_REMOTE_CODE", raising=False)
    assert "set the environment variable `TRUST_REMOTE_CODE`" in refused(capsys, "load-from-hub", *LOAD)
