"""``train --dry-run`` and ``--explain``: which values a run uses, and where each came from."""

from pathlib import Path

import pytest
from command import ENV_ID, SMALL, TRAIN, call, refused

from sb3_pgfd import TD3fD

OWN_YAML = """
Pendulum-v1:
  n_timesteps: 900
  policy: MlpPolicy
  demonstrations: Pendulum-v1
  gamma: 0.9
  tau: 0.02
  replay_buffer_kwargs: {keep_successes: false, demo_fraction: 0.25}
  policy_kwargs: {net_arch: [16]}
"""


def rows(printed: str) -> dict[str, tuple[str, str]]:
    """:return: Value and origin of each option of the table in what a command printed"""
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["option", "value", "from"])
    value, origin = lines[start].index("value"), lines[start].index("from")
    body = lines[start + 1 : lines.index("", start)]
    return {line[:value].strip(): (line[value:origin].strip(), line[origin:]) for line in body}


def test_each_value_is_from_the_last_place_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yml").write_text(OWN_YAML)
    params = ["tau:0.03", "policy_kwargs:dict(n_critics=3)", "replay_buffer_kwargs:dict(her_ratio=0.0)"]
    options = ["--algo", "td3fd", "--env", ENV_ID, "-conf", "own.yml", "--seed", "3"]
    printed = call(capsys, "train", *options, "-params", *params, "--dry-run", "--explain")
    found, entry = rows(printed), "own.yml, entry Pendulum-v1"
    assert {name: found[name] for name in ("n_timesteps", "gamma", "tau", "n_steps", "--eval-freq", "--seed", "--device")} == {
        "n_timesteps": ("900", entry),
        "gamma": ("0.9", entry),
        "tau": ("0.03", "-params"),
        "n_steps": ("10", "default of TD3fD"),
        # A tenth of the run
        "--eval-freq": ("90", "default of train"),
        "--seed": ("3", "command line"),
        "--device": ("auto", "default of train"),
    }
    nested = {name.split(".")[1]: place for name, place in found.items() if "." in name}
    names = ("demo_fraction", "keep_successes", "her_ratio", "priority_exponent", "net_arch", "n_critics", "layer_norm")
    assert {name: nested[name] for name in names} == {
        "demo_fraction": ("0.25", entry),
        "keep_successes": ("False", entry),
        "her_ratio": ("0", "-params"),
        "priority_exponent": ("0.3", "default of DemoReplayBuffer"),
        "net_arch": ("[16]", entry),
        "n_critics": ("3", "-params"),
        "layer_norm": ("True", "default of TD3fDPolicy"),
    }
    assert "5 episodes, 1,000 transitions, mean return -199.1" in printed
    assert "The run's folder would be logs/td3fd/Pendulum-v1_1" in printed
    # Nothing but the yaml is there
    assert [path.name for path in tmp_path.iterdir()] == ["own.yml"]


def test_a_dry_run_alone_shows_what_somebody_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = rows(call(capsys, "train", *TRAIN, "-n", "70", "--dry-run"))
    assert found["n_timesteps"] == ("70", "-n")
    assert found["gamma"] == ("0.98", "packaged ddpgfd.yml, entry Pendulum-v1")
    # The Zoo makes one of noise_type and noise_std
    assert found["action_noise"] == ("normal, 0.1", "packaged ddpgfd.yml, entry Pendulum-v1")
    assert not any(origin.startswith("default") for _, origin in found.values())


def test_a_dry_run_of_one_of_the_zoos_own_algorithms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = rows(call(capsys, "train", "--algo", "sac", "--env", ENV_ID, "--dry-run", "--explain"))
    assert found["learning_rate"][1].endswith("sac.yml, entry Pendulum-v1")
    assert found["gamma"] == ("0.99", "default of SAC")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_what_learning_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--algo", "td3fd", "--env", ENV_ID, "-params", "demonstrations:None", "bc_coef:2.0", "--dry-run"]
    assert "TD3fD: found no demonstrations, but bc_coef=2.0" in refused(capsys, "train", *options)
    assert "-optimize" in refused(capsys, "train", "--env", ENV_ID, "-optimize", "--explain", code=2)


def test_a_yaml_needs_no_steps_where_the_command_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yml").write_text("Pendulum-v1: {policy: MlpPolicy}")
    for algo in ("td3fd", "sac"):
        command = ["--algo", algo, "--env", ENV_ID, "-conf", "own.yml", "--dry-run"]
        assert rows(call(capsys, "train", *command, "-n", "80"))["n_timesteps"][0] == "80"
        assert "found no n_timesteps for Pendulum-v1, expected it, or -n STEPS" in refused(capsys, "train", *command)


def test_explained_runs_train_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["--algo", "td3fd", "--env", ENV_ID, "-n", "60", "--eval-freq", "-1", *SMALL]
    found = rows(call(capsys, "train", *command, "--explain"))
    run = Path("logs/td3fd/Pendulum-v1_1")
    model = TD3fD.load(run / "Pendulum-v1.zip")
    assert found["batch_size"] == (str(model.batch_size), "-params")
    assert found["policy_delay"] == (str(model.policy_delay), "packaged td3fd.yml, entry Pendulum-v1")
    assert found["target_noise_clip"] == (str(model.target_noise_clip), "default of TD3fD")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    printed = call(capsys, "train", "--resume", str(run), "-n", "120", "--dry-run", "--explain")
    found = rows(printed)
    assert found["n_timesteps"] == ("120", "-n")
    assert found["tau"] == ("0.02", f"{run}, config.yml")
    assert found["target_noise_clip"] == ("0.5", "training state of the run")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
