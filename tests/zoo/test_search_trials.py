"""Trials in this process: what they have, what ``--trial-id`` gives back, and how they end."""

import argparse
import inspect
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback

from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.zoo import register
from sb3_pgfd.zoo.command_line import CommandError, EndedRunError
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager

ENV_ID = "Pendulum-v1"
ENTRY: dict[str, Any] = {
    "policy": "MlpPolicy",
    "n_timesteps": 1000,
    "demonstrations": ENV_ID,
    "callback": f"{__name__}.RecordOptions",
}
# One with the Zoo's text for a dict, and options that no trial has
ENTRIES: dict[str, dict[str, Any]] = {
    "ddpgfd": {
        **ENTRY,
        "buffer_size": 2000,
        "noise_type": "ornstein-uhlenbeck",
        "noise_std": 0.7,
        "replay_buffer_kwargs": {"demo_fraction": 0.6},
        "learning_rate": "lin_1e-3",
        "policy_kwargs": "dict(net_arch=[16], activation_fn=nn.Tanh)",
    },
    "td3fd": {
        **ENTRY,
        "buffer_size": 2000,
        "replay_buffer_kwargs": "dict(her_ratio=0.0)",
        "policy_kwargs": {"actor_dropout": 0.1},
    },
    "sacfd": {**ENTRY, "buffer_size": 2000, "policy_kwargs": {"normalize_images": False}},
    "a2cfd": {
        **ENTRY,
        "n_envs": 2,
        "normalize": "dict(norm_obs=False, norm_reward=True)",
        "actor_learning_rate": "lin_1e-4",
        "policy_kwargs": {"net_arch": [16], "normalize_images": False},
    },
}
GIVEN: dict[str, dict[str, Any]] = {
    "ddpgfd": {"pretrain_steps": 2, "gradient_steps": 1},
    "td3fd": {"pretrain_steps": 2, "gradient_steps": 1},
    "sacfd": {"pretrain_steps": 2, "gradient_steps": 1},
    "a2cfd": {"pretrain_steps": 2, "n_steps": 4},
}
# The time that a trial takes is mostly that of its networks
QUICK = {algo: {**given, "policy_kwargs": {"net_arch": [8]}} for algo, given in GIVEN.items()}
# They do not decide what is learned, or are read from others below
NOT_COMPARED = {"policy", "env", "demonstrations", "seed", "verbose", "tensorboard_log", "action_noise"}
NOT_COMPARED |= {"stats_window_size", "_init_setup_model"}


class RecordOptions(BaseCallback):
    """Keeps what each model was made with when it begins to learn."""

    seen: ClassVar[list[dict[str, Any]]] = []

    def _on_training_start(self) -> None:
        names = [name for name in inspect.signature(type(self.model)).parameters if name not in NOT_COMPARED]
        options = {name: getattr(self.model, name) for name in names}
        for name in ("learning_rate", "actor_learning_rate"):
            rate = options[name]
            options[name] = [rate(1.0), rate(0.5)] if callable(rate) else rate
        noise = getattr(self.model, "action_noise", None)
        normalize = self.model.get_vec_normalize_env()
        self.seen.append(
            {
                **options,
                "noise": noise and (type(noise), list(noise._sigma)),
                "normalize": normalize and (normalize.gamma, normalize.norm_obs, normalize.norm_reward),
                "n_parameters": sum(parameter.numel() for parameter in self.model.policy.parameters()),
            }
        )

    def _on_step(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()
    RecordOptions.seen.clear()


def make_manager(folder: Path, algo: str = "ddpgfd", **kwargs: Any) -> PgfdExperimentManager:
    """A manager of few and short trials, in memory unless a storage is named."""
    config = folder / f"{algo}.yml"
    config.write_text(yaml.safe_dump({ENV_ID: ENTRIES[algo]}))
    defaults: dict[str, Any] = {"n_timesteps": 16, "n_evaluations": 2, "n_eval_episodes": 1, "eval_freq": -1, "n_trials": 2}
    defaults |= {"optimize_hyperparameters": "trial_id" not in kwargs, "sampler": "random", "no_optim_plots": True}
    defaults |= {
        "pruner": "none",
        "log_interval": -1,
        "hyperparams": GIVEN[algo],
        "config": str(config),
        "device": "cpu",
        "verbose": 0,
    }
    return PgfdExperimentManager(argparse.Namespace(), algo, ENV_ID, str(folder / "logs"), **{**defaults, **kwargs})


def optimize(manager: PgfdExperimentManager) -> pd.DataFrame:
    """:return: The report"""
    assert manager.setup_experiment() is None
    manager.hyperparameters_optimization()
    (report,) = Path(manager.log_path).glob("report_*.csv")
    return pd.read_csv(report)


def journal(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(folder / "study.log"))))


@pytest.mark.parametrize("algo", ["ddpgfd", "td3fd", "sacfd", "a2cfd"])
def test_a_run_with_a_trials_number_has_all_that_the_trial_had(algo: str, tmp_path: Path) -> None:
    study: dict[str, Any] = {"storage": str(tmp_path / "study.log"), "study_name": "s", "hyperparams": GIVEN[algo]}
    optimize(make_manager(tmp_path, algo, n_trials=3, seed=1, **study))
    trials = list(RecordOptions.seen)
    assert len(trials) == 3
    RecordOptions.seen.clear()
    for number in range(3):
        manager = make_manager(tmp_path, algo, trial_id=number, **study)
        made = manager.setup_experiment()
        assert made is not None
        manager.learn(made[0])
        assert RecordOptions.seen.pop() == trials[number]
    assert len({options["gamma"] for options in trials}) == 3


def test_the_entrys_policy_kwargs_stay_where_a_trial_has_none(tmp_path: Path) -> None:
    optimize(make_manager(tmp_path, n_trials=1, hyperparams=GIVEN["ddpgfd"]))
    policy_kwargs = RecordOptions.seen[0]["policy_kwargs"]
    assert policy_kwargs["activation_fn"].__name__ == "Tanh"
    assert policy_kwargs["net_arch"] in ([64, 64], [128, 128], [256, 256], [400, 300])
    optimize(make_manager(tmp_path / "logs", "a2cfd", n_trials=1, hyperparams=GIVEN["a2cfd"]))
    assert RecordOptions.seen[1]["policy_kwargs"]["normalize_images"] is False
    assert "log_std_min" in RecordOptions.seen[1]["policy_kwargs"]


def test_the_reward_is_normalised_with_the_trials_discount(tmp_path: Path) -> None:
    optimize(make_manager(tmp_path, "a2cfd", n_trials=2))
    assert [options["normalize"][0] for options in RecordOptions.seen] == [o["gamma"] for o in RecordOptions.seen]


def test_what_is_given_counts_more_than_the_trial_and_is_not_in_the_study(tmp_path: Path) -> None:
    given = {**GIVEN["ddpgfd"], "gamma": 0.5, "policy_kwargs": {"net_arch": [4]}}
    study: dict[str, Any] = {"storage": str(tmp_path / "study.log"), "study_name": "s", "hyperparams": given}
    optimize(make_manager(tmp_path, n_trials=1, **study))
    make_manager(tmp_path, trial_id=0, **study).setup_experiment()
    assert (RecordOptions.seen[0]["gamma"], RecordOptions.seen[0]["policy_kwargs"]["net_arch"]) == (0.5, [4])
    searched = set(journal(tmp_path).trials[0].params)
    assert {"one_minus_gamma", "net_arch", "gradient_steps"} & searched == set()
    assert {"layer_norm", "n_critics"} <= searched


def test_the_configuration_that_is_saved_is_the_trials(tmp_path: Path) -> None:
    study: dict[str, Any] = {"storage": str(tmp_path / "study.log"), "study_name": "s", "hyperparams": GIVEN["a2cfd"]}
    optimize(make_manager(tmp_path, "a2cfd", n_trials=1, **study))
    manager = make_manager(tmp_path, "a2cfd", trial_id=0, **study)
    manager.setup_experiment()
    saved = yaml.load((Path(manager.params_path) / "config.yml").read_text(), Loader=yaml.UnsafeLoader)
    assert saved["gamma"] == journal(tmp_path).trials[0].user_attrs["gamma"]
    assert saved["policy_kwargs"].keys() == {"net_arch", "normalize_images", "log_std_min", "log_std_max"}


def test_the_report_holds_what_the_study_does(tmp_path: Path) -> None:
    report = optimize(make_manager(tmp_path, n_trials=3, storage=f"sqlite:///{tmp_path}/study.db", study_name="s"))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    assert report["number"].tolist() == [0, 1, 2]
    assert report["value"].tolist() == pytest.approx([trial.value for trial in study.trials])
    assert report["state"].tolist() == ["COMPLETE"] * 3
    (pickled,) = (tmp_path / "logs" / "ddpgfd").glob("report_*.pkl")
    loaded = pickle.loads(pickled.read_bytes())
    assert loaded.best_trial == study.best_trial


def test_bad_trials_are_pruned_and_keep_what_they_reached(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"n_trials": 8, "n_evaluations": 4, "pruner": "median", "n_startup_trials": 1, "seed": 3}
    settings |= {"storage": str(tmp_path / "study.log"), "study_name": "s", "optimization_log_path": str(tmp_path)}
    report = optimize(make_manager(tmp_path, **settings))
    states = report["state"].tolist()
    assert set(states) == {"COMPLETE", "PRUNED"}
    for trial in journal(tmp_path).trials:
        assert len(trial.intermediate_values) == 4 or trial.state == TrialState.PRUNED
        assert trial.value == trial.intermediate_values[max(trial.intermediate_values)]
        assert "error" not in trial.user_attrs
        with np.load(tmp_path / f"trial_{trial.number}" / "evaluations.npz") as evaluations:
            assert evaluations["results"].mean(axis=1).tolist() == pytest.approx(list(trial.intermediate_values.values()))


@pytest.mark.parametrize(
    ("algo", "sampling", "reason"),
    [
        ("ddpgfd", {"replay_buffer_kwargs": {"demo_fraction": None}}, "the critic has diverged"),
        # Without priorities the first action tells
        ("ddpgfd", {"replay_buffer_kwargs": {"demo_fraction": 0.5}}, "found nan, .*the policy has diverged"),
        ("a2cfd", {}, "overflow|diverged|invalid values"),
    ],
)
def test_trials_that_diverge_are_pruned_and_the_reason_is_told(
    algo: str, sampling: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    # The largest number of the networks is 3e38
    given = {**QUICK[algo], "learning_rate": 1e39, **sampling}
    study: dict[str, Any] = {"storage": str(tmp_path / "study.log"), "study_name": "s"}
    manager = make_manager(tmp_path, algo, hyperparams=given, n_timesteps=64, **study)
    manager.setup_experiment()
    with pytest.raises(CommandError, match=f"(?s)found 2 trials, all pruned.*2 stopped early.*({reason})"):
        manager.hyperparameters_optimization()
    assert [trial.state for trial in journal(tmp_path).trials] == [TrialState.PRUNED] * 2


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"demonstrations": "no-such-file.npz"}, DemonstrationsError, "no-such-file"),
        ({"demonstrations": "MountainCarContinuous-v0"}, DemonstrationsError, "observation"),
        ({"tau": -1.0}, ValueError, "tau: found -1.0"),
        ({"tua": 0.1}, CommandError, "did you mean 'tau'"),
    ],
)
def test_what_is_wrong_with_every_trial_is_an_error_at_once(
    given: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    manager = make_manager(tmp_path, hyperparams=given, storage=str(tmp_path / "study.log"), study_name="s")
    with pytest.raises(error, match=match):
        optimize(manager)
    assert not (tmp_path / "study.log").exists()


def test_a_trial_takes_the_entrys_lengths_and_says_what_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {"n_trials": 3, "n_timesteps": -1, "verbose": 1}
    manager = make_manager(tmp_path, **settings)
    short = {**ENTRIES["ddpgfd"], "n_timesteps": 24, "pretrain_steps": 3}
    Path(manager.config).write_text(yaml.safe_dump({ENV_ID: short}))
    manager._given = {"policy_kwargs": {"net_arch": [8]}, "gradient_steps": 1}
    report = optimize(manager)
    assert [options["pretrain_steps"] for options in RecordOptions.seen] == [3] * 3
    assert "params_pretrain_steps" not in report
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Trial ")]
    assert lines[0] == "Trial 0 (1 of 3) begins: 24 steps"
    assert [line.partition(", mean return")[0] for line in lines[1:3]] == [f"Trial 0: {n} of 24 steps" for n in (12, 24)]
    assert len(lines) == 9


@pytest.mark.parametrize("algo", ["ddpgfd", "a2c"])
def test_a_trial_is_stopped_when_its_time_is_up(algo: str, tmp_path: Path) -> None:
    config = tmp_path / "endless.yml"
    entry = {"policy": "MlpPolicy", "n_timesteps": 10**8}
    # In pretraining, and in learning
    own = {"demonstrations": ENV_ID, "pretrain_steps": 10**6, "policy_kwargs": {"net_arch": [8]}, "buffer_size": 1000}
    config.write_text(yaml.safe_dump({ENV_ID: {**entry, **(own if algo == "ddpgfd" else {})}}))
    manager = PgfdExperimentManager(
        argparse.Namespace(), algo, ENV_ID, str(tmp_path), n_timesteps=-1, n_evaluations=1, n_trials=1, device="cpu",
        optimize_hyperparameters=True, no_optim_plots=True, verbose=0, config=str(config), trial_timeout=0.5,
    )  # fmt: skip
    manager.setup_experiment()
    with pytest.raises(CommandError, match=r"found 1 trials, all pruned .* it took more than 0.5 s \(--trial-timeout\)"):
        manager.hyperparameters_optimization()


def test_ctrl_c_before_a_trial_has_finished_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> float:
        raise KeyboardInterrupt

    manager = make_manager(tmp_path, "ddpgfd", n_timesteps=64)
    manager.setup_experiment()
    monkeypatch.setattr(PgfdExperimentManager, "_run_trial", interrupted)
    with pytest.raises(EndedRunError, match="interrupted before a trial has finished"):
        manager.hyperparameters_optimization()


def test_two_threads_share_a_study(tmp_path: Path) -> None:
    report = optimize(make_manager(tmp_path, "a2cfd", n_trials=4, n_jobs=2))
    assert sorted(report["number"]) == [0, 1, 2, 3]
    assert set(report["state"]) <= {"COMPLETE", "PRUNED"}
    seen = sorted(options["gamma"] for options in RecordOptions.seen)
    assert seen == pytest.approx(sorted(report["user_attrs_gamma"]))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_study_that_is_continued_does_not_try_the_same_again(sampler: str, tmp_path: Path) -> None:
    for _ in range(3):
        study: dict[str, Any] = {"storage": str(tmp_path / "study.log"), "study_name": "s", "seed": 5, "n_startup_trials": 10}
        manager = make_manager(tmp_path, "a2cfd", sampler=sampler, n_trials=1, **study)
        manager.setup_experiment()
        manager.hyperparameters_optimization()
    assert len({trial.params["learning_rate"] for trial in journal(tmp_path).trials}) == 3


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({}, "expected both"),
        ({"study_name": "s"}, "expected both"),
        ({"storage": "gone.log", "study_name": "s"}, "found no file gone.log"),
        ({"storage": "sqlite:///gone.db", "study_name": "s"}, "found no file gone.db"),
    ],
)
def test_a_trial_without_its_study_is_refused(kwargs: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=match):
        make_manager(tmp_path, trial_id=0, **kwargs).setup_experiment()
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("study_name", "trial_id"), [("s", 1), ("s", -1), ("other", 0)])
def test_a_trial_that_is_not_there_is_refused(study_name: str, trial_id: int, tmp_path: Path) -> None:
    storage = str(tmp_path / "study.log")
    optimize(make_manager(tmp_path, n_trials=1, storage=storage, study_name="s"))
    manager = make_manager(tmp_path, trial_id=trial_id, storage=storage, study_name=study_name)
    with pytest.raises(CommandError, match=f"found no trial {trial_id} of the study '{study_name}'"):
        manager.setup_experiment()


def test_the_zoos_own_algorithms_are_tuned_as_before(tmp_path: Path) -> None:
    config = tmp_path / "a2c.yml"
    config.write_text(yaml.safe_dump({ENV_ID: {"policy": "MlpPolicy", "n_timesteps": 100, "n_envs": 1}}))
    study: dict[str, Any] = {"storage": str(tmp_path / "study.log"), "study_name": "s", "config": str(config), "verbose": 0}
    manager = PgfdExperimentManager(
        argparse.Namespace(), "a2c", ENV_ID, str(tmp_path), n_timesteps=64, n_evaluations=1, n_trials=1, device="cpu",
        optimize_hyperparameters=True, n_eval_episodes=1, no_optim_plots=True, **study,
    )  # fmt: skip
    optimize(manager)
    manager = PgfdExperimentManager(
        argparse.Namespace(), "a2c", ENV_ID, str(tmp_path), n_timesteps=64, eval_freq=-1, trial_id=0, device="cpu", **study
    )
    made = manager.setup_experiment()
    assert made is not None
    assert isinstance(made[0], A2C)
    assert made[0].gamma == journal(tmp_path).trials[0].user_attrs["gamma"]
