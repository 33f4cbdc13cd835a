"""What the callback records, compared with what the environments saw themselves."""

import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from clockwork import clockwork
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations, DemonstrationsError
from sb3_pgfd.callbacks import ProgressLog, RecordSuccesses, SaveTrainingState
from sb3_pgfd.wrappers import InterventionWrapper

Log = list[dict[str, Any]]


class Diary(gym.Env):
    """
    Chance decides on everything, and it writes down what happens.

    :param log: Where finished episodes go; several environments share it
    :param kind: Of its observations: ``"vector"``, ``"dict"`` or ``"image"``
    :param discrete: Whether it takes one of three actions
    """

    def __init__(self, log: Log, kind: str = "vector", discrete: bool = False):
        vector = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        image = spaces.Box(0, 255, (36, 36, 3), np.uint8)
        kinds: dict[str, spaces.Space] = {"vector": vector, "image": image, "dict": spaces.Dict({"a": vector, "b": image})}
        self.observation_space = kinds[kind]
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-2, 2, (1,), np.float32)
        self.log = log

    def observe(self) -> Any:
        vector = self.np_random.normal(5, 3, 2).astype(np.float32)
        image = self.np_random.integers(0, 255, (36, 36, 3), dtype=np.uint8)
        if isinstance(self.observation_space, spaces.Dict):
            return {"a": vector, "b": image}
        return vector if self.observation_space.dtype == np.float32 else image

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        first = self.observe()
        self.page: dict[str, Any] = {"observations": [first], "actions": [], "rewards": [], "terminated": False}
        return first, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward = self.observe(), float(self.np_random.normal(1))
        for name, value in (("observations", observation), ("actions", np.array(action)), ("rewards", reward)):
            self.page[name].append(value)
        over = self.np_random.random() < 0.25
        terminated = bool(over and self.np_random.random() < 0.5)
        info = {"is_success": bool(self.np_random.random() < 0.5)} if over else {}
        if over:
            self.log.append({**self.page, "terminated": terminated, **info})
        return observation, reward, terminated, bool(over and not terminated), info


def make_envs(log: Log, n_envs: int = 1, **options: Any) -> VecEnv:
    env = DummyVecEnv([lambda: Monitor(Diary(log, **options)) for _ in range(n_envs)])
    env.seed(1)
    return env


def column(observations: list[Any], key: str | None) -> np.ndarray:
    array = np.stack([observation if key is None else observation[key] for observation in observations])
    # As the model sees images
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


def assert_recorded(found: Demonstrations, expected: Log, exact: bool = True) -> None:
    assert found.n_episodes == len(expected)
    for number, page in enumerate(expected):
        episode = found.episode(number)
        for key in page["observations"][0] if isinstance(page["observations"][0], dict) else [None]:
            array = episode.observations if key is None else episode.observations[key]
            wanted = column(page["observations"], key)
            assert isinstance(array, np.ndarray)
            np.testing.assert_array_equal(array[:-1], wanted[:-1])
            np.testing.assert_allclose(array[-1], wanted[-1], rtol=0 if exact else 1e-4, atol=0 if exact else 1e-4)
            assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(episode.actions, np.array(page["actions"]))
        np.testing.assert_array_equal(episode.rewards, np.array(page["rewards"], dtype=np.float32))
        assert (episode.terminated, episode.success) == (page["terminated"], page["is_success"])


def successes(log: Log) -> Log:
    return [page for page in log if page["is_success"]]


def make_model(name: str, env: VecEnv, policy: str = "MlpPolicy", **options: Any) -> BaseAlgorithm:
    """As small as can be."""
    policy_kwargs: dict[str, Any] = {"net_arch": [4], **options.pop("policy_kwargs", {})}
    if issubclass(ALGORITHMS[name], OnPolicyAlgorithm):
        options = {"n_steps": 8, **({"batch_size": 8, "n_epochs": 1} if "PPO" in name else {}), **options}
    else:
        options = {"learning_starts": 10, "train_freq": 20, "buffer_size": 200, "batch_size": 4, **options}
    if name == "RecurrentPPO":
        policy, policy_kwargs["lstm_hidden_size"] = "MlpLstmPolicy", 4
    return ALGORITHMS[name](policy, env, seed=0, device="cpu", policy_kwargs=policy_kwargs, **options)


ALGORITHMS: dict[str, Any] = {
    algorithm.__name__: algorithm for algorithm in (A2C, A2CfD, DDPGfD, DQN, PPO, QRDQN, RecurrentPPO, SAC, TQC)
}
CONTINUOUS = [name for name in ALGORITHMS if name not in ("DQN", "QRDQN")]


@pytest.mark.parametrize(("n_envs", "normalize"), [(1, True), (3, False)])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_successful_episodes_are_recorded_as_they_happened(name: str, n_envs: int, normalize: bool, tmp_path: Path):
    log: Log = []
    env = make_envs(log, n_envs)
    model = make_model(name, VecNormalize(env) if normalize else env)
    model.learn(96, callback=RecordSuccesses(tmp_path / "a.npz"))
    demonstrations = Demonstrations.load(tmp_path / "a.npz")
    assert demonstrations.n_episodes > 3
    assert_recorded(demonstrations, successes(log), exact=not normalize)
    demonstrations.check_spaces(model.observation_space, model.action_space)
    assert demonstrations.metadata["producer"] == f"{type(model).__name__} while learning"
    assert demonstrations.metadata["success_rate"] == 1.0


def test_actions_are_recorded_as_somebody_executed_them(tmp_path: Path):
    log: Log = []
    took_over = iter([None, np.full(1, 1.5)] * 200)
    env = DummyVecEnv([lambda: InterventionWrapper(Monitor(Diary(log)), lambda observation, action: next(took_over))])
    make_model("DDPGfD", env).learn(96, callback=RecordSuccesses(tmp_path / "a.npz"))
    demonstrations = Demonstrations.load(tmp_path / "a.npz")
    assert_recorded(demonstrations, successes(log))
    assert 0.3 < np.mean(demonstrations.actions == np.float32(1.5)) < 0.7


@pytest.mark.parametrize("name", ["DQN", "QRDQN", "PPO"])
def test_discrete_actions_are_recorded(name: str, tmp_path: Path):
    log: Log = []
    make_model(name, make_envs(log, 2, discrete=True)).learn(60, callback=RecordSuccesses(tmp_path / "a.npz"))
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), successes(log))


def test_squashed_actions_are_recorded_as_the_environment_gets_them(tmp_path: Path):
    log: Log = []
    model = make_model("PPO", make_envs(log), use_sde=True, policy_kwargs={"squash_output": True})
    model.learn(60, callback=RecordSuccesses(tmp_path / "a.npz"))
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), successes(log))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_dicts_and_images_are_recorded_as_the_model_sees_them(name: str, normalize: bool, tmp_path: Path):
    log: Log = []
    env = make_envs(log, 2, kind="dict")
    # SB3's replay buffers take images under VecNormalize with their channels first only
    env = VecTransposeImage(env) if name == "SAC" and normalize else env
    model = make_model(
        name,
        VecNormalize(env, norm_obs_keys=["a"]) if normalize else env,
        "MultiInputPolicy",
        policy_kwargs={"features_extractor_kwargs": {"cnn_output_dim": 4}},
    )
    model.learn(48, callback=RecordSuccesses(tmp_path / "a.npz"))
    demonstrations = Demonstrations.load(tmp_path / "a.npz")
    assert_recorded(demonstrations, successes(log), exact=not normalize)
    demonstrations.check_spaces(model.observation_space, model.action_space)


def test_images_alone_are_recorded_as_the_model_sees_them(tmp_path: Path):
    log: Log = []
    model = make_model("PPO", make_envs(log, kind="image"))
    model.learn(48, callback=RecordSuccesses(tmp_path / "a.npz"))
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), successes(log))


def test_a_high_return_is_a_success_too(tmp_path: Path):
    log: Log = []
    make_model("PPO", VecNormalize(make_envs(log))).learn(96, callback=RecordSuccesses(tmp_path / "a.npz", min_return=5.0))
    # Raw, not normalised ones
    expected = [page for page in log if page["is_success"] or sum(page["rewards"]) >= 5.0]
    assert len(expected) > len(successes(log))
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), expected, exact=False)


def test_so_many_episodes_are_recorded_at_most(tmp_path: Path):
    log: Log = []
    model = make_model("SAC", make_envs(log, 3))
    model.learn(60, callback=RecordSuccesses(tmp_path / "a.npz", max_episodes=2))
    assert len(successes(log)) > 2
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), successes(log)[:2])


def test_successes_in_the_same_step_are_counted_one_by_one(tmp_path: Path):
    env = DummyVecEnv([clockwork([1.0, 1.0])] * 3)
    make_model("SAC", env).learn(12, callback=RecordSuccesses(tmp_path / "a.npz", max_episodes=4, min_return=0.0))
    assert Demonstrations.load(tmp_path / "a.npz").n_episodes == 4


class Restarts(VecEnvWrapper):
    """In the fifth step, the second of an episode, its environment is lost, as a worker of Ray is."""

    n_steps = 0

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations: Any
        observations, rewards, dones, infos = self.venv.step_wait()
        self.n_steps += 1
        if self.n_steps == 5:
            last = observations - 1.0
            infos[0] = {"env_restarted": True, "TimeLimit.truncated": True, "terminal_observation": last[0]}
            return self.venv.reset(), np.zeros_like(rewards), np.ones_like(dones), infos
        return observations, rewards, dones, infos


def test_an_episode_whose_environment_was_lost_is_not_recorded(tmp_path: Path):
    # Steps 1 to 3, 4 and 5, and five times three
    env = Restarts(DummyVecEnv([clockwork([1.0, 1.0, 1.0])]))
    make_model("SAC", env).learn(20, callback=RecordSuccesses(tmp_path / "a.npz", min_return=0.0))
    assert env.n_steps == 20
    assert Demonstrations.load(tmp_path / "a.npz").episode_lengths.tolist() == [3] * 6


def test_without_a_success_there_is_no_file_but_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = A2C("MlpPolicy", "CartPole-v1", device="cpu", verbose=1)
    model.learn(64, callback=RecordSuccesses(tmp_path / "a.npz", min_return=1e9))
    assert list(tmp_path.iterdir()) == []
    assert "RecordSuccesses: found no successful episode" in capsys.readouterr().out


def test_the_number_of_recorded_episodes_is_logged(tmp_path: Path):
    log: Log = []
    model = make_model("PPO", make_envs(log))
    model.learn(32, callback=[ProgressLog(str(tmp_path)), RecordSuccesses(tmp_path / "a.npz")], log_interval=1)
    with (tmp_path / "progress.csv").open() as file:
        numbers = [int(float(row["rollout/recorded_episodes"])) for row in csv.DictReader(file)]
    assert len(numbers) == 4
    assert numbers == sorted(numbers)
    assert numbers[-1] == len(successes(log)) > 0


@pytest.mark.parametrize("name", ["A2C", "SAC"])
@pytest.mark.parametrize("normalize", [False, True])
def test_learning_on_goes_on_with_the_same_file(name: str, normalize: bool, tmp_path: Path):
    log: Log = []
    env = make_envs(log, 2)
    model, callback = make_model(name, VecNormalize(env) if normalize else env), RecordSuccesses(tmp_path / "a.npz")
    numbers = []
    for n_steps in (32, 34, 36):
        model.learn(n_steps, callback=callback, reset_num_timesteps=False)
        numbers.append(Demonstrations.load(tmp_path / "a.npz").n_episodes)
    assert numbers == sorted(set(numbers))
    # Those too that were under way in between
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), successes(log), exact=not normalize)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("name", ["A2C", "SAC"])
def test_an_episode_that_was_reset_by_learning_anew_is_dropped(name: str, tmp_path: Path):
    log: Log = []
    model, callback = make_model(name, make_envs(log, 2)), RecordSuccesses(tmp_path / "a.npz")
    for _ in range(3):
        model.learn(32, callback=callback)
    assert_recorded(callback.session.finish({}), successes(log))


def test_an_episode_whose_beginning_was_not_seen_is_not_recorded(tmp_path: Path):
    log: Log = []
    env = make_envs(log, 3)
    model = make_model("SAC", env)
    model.learn(30)
    n_before, under_way = len(log), [id(page["rewards"]) for page in env.get_attr("page")]
    callback = RecordSuccesses(tmp_path / "a.npz", min_return=-1e9)
    model.learn(60, callback=callback, reset_num_timesteps=False)
    expected = [page for page in log[n_before:] if id(page["rewards"]) not in under_way]
    assert 0 < len(expected) < len(log[n_before:])
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), expected)


class Crashes(BaseCallback):
    """After some steps."""

    def _on_step(self) -> bool:
        if self.num_timesteps > 40:
            raise ArithmeticError
        return True


def test_a_training_that_crashes_loses_nothing(tmp_path: Path):
    log: Log = []
    model = make_model("PPO", make_envs(log))
    with pytest.raises(ArithmeticError):
        model.learn(96, callback=[RecordSuccesses(tmp_path / "a.npz"), Crashes()])
    n_kept = len(successes(log))
    assert_recorded(Demonstrations.load(tmp_path / "a.npz.recording"), successes(log))
    again = make_model("PPO", make_envs(log))
    with pytest.raises(FileExistsError, match=r"unfinished recording of .* episodes, expected none: pass --resume"):
        again.learn(48, callback=RecordSuccesses(tmp_path / "a.npz"))
    assert again.num_timesteps == 0
    again.learn(48, callback=RecordSuccesses(tmp_path / "a.npz", resume=True))
    assert len(successes(log)) > n_kept
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), successes(log))


@pytest.mark.parametrize("step", [3, 20])
def test_a_resumed_run_records_no_episode_twice(step: int, tmp_path: Path):
    whole: Log = []
    make_model("DDPGfD", make_envs(whole), train_freq=1).learn(80)
    model = make_model("DDPGfD", make_envs([]), train_freq=1)
    saving = SaveTrainingState(tmp_path / "state", save_freq=step, every=0.0, keep=20)
    with pytest.raises(ArithmeticError):
        model.learn(80, callback=[RecordSuccesses(tmp_path / "a.npz"), saving, Crashes()])
    del model, saving
    # As if it had been killed then. The episodes up to the crash are on disk
    assert len(Demonstrations.load(tmp_path / "a.npz.recording").episode_lengths) > 3
    resumed = DDPGfD.resume(tmp_path / "state" / f"step_{step}", make_envs([]))
    assert resumed.num_timesteps == step
    resumed.learn(80, callback=[RecordSuccesses(tmp_path / "a.npz", resume=True)])
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), successes(whole))


def test_a_run_that_had_ended_goes_on_with_its_episodes(tmp_path: Path):
    whole: Log = []
    make_model("DDPGfD", make_envs(whole)).learn(80)

    def callbacks(**options: bool) -> list[BaseCallback]:
        return [RecordSuccesses(tmp_path / "a.npz", **options), SaveTrainingState(tmp_path / "state")]

    make_model("DDPGfD", make_envs([])).learn(40, callback=callbacks())
    resumed = DDPGfD.resume(tmp_path / "state", make_envs([]))
    resumed.learn(80, callback=callbacks(overwrite=True))
    assert_recorded(Demonstrations.load(tmp_path / "a.npz"), successes(whole))


def test_a_file_is_refused_before_anything_is_learned(tmp_path: Path):
    model = make_model("SAC", make_envs([]))
    (tmp_path / "a.npz").write_text("mine")
    with pytest.raises(FileExistsError, match=r"a.npz: found a file, expected none"):
        model.learn(20, callback=RecordSuccesses(tmp_path / "a.npz"))
    assert model.num_timesteps == 0
    model.learn(20, callback=RecordSuccesses(tmp_path / "a.npz", overwrite=True, min_return=-100.0))
    assert Demonstrations.load(tmp_path / "a.npz").n_episodes > 0


def test_another_model_is_refused(tmp_path: Path):
    callback = RecordSuccesses(tmp_path / "a.npz")
    make_model("PPO", make_envs([])).learn(8, callback=callback)
    with pytest.raises(DemonstrationsError, match=r"found another algorithm or environment than at the start of"):
        make_model("SAC", make_envs([])).learn(8, callback=callback)


def test_an_algorithm_that_tells_nothing_of_its_steps_is_refused(tmp_path: Path):
    with pytest.raises(DemonstrationsError, match="found a model of type ARS, expected an OnPolicyAlgorithm or"):
        ARS("LinearPolicy", make_envs([])).learn(10, callback=RecordSuccesses(tmp_path / "a.npz"))


def test_frames_stacked_over_normalised_ones_are_refused(tmp_path: Path):
    env = VecFrameStack(VecNormalize(make_envs([])), 2)
    expected = r"observations under VecNormalize: found shape \(2,\) per step, expected \(4,\)"
    with pytest.raises(DemonstrationsError, match=expected):
        make_model("PPO", env).learn(8, callback=RecordSuccesses(tmp_path / "a.npz"))


def test_what_is_recorded_says_where_it_comes_from(tmp_path: Path):
    model = A2C("MlpPolicy", "CartPole-v1", n_steps=8, device="cpu")
    model.learn(64, callback=RecordSuccesses(tmp_path / "a.npz", min_return=5.0))
    metadata = Demonstrations.load(tmp_path / "a.npz").metadata
    assert (metadata["env_id"], metadata["env_kwargs"], metadata["min_return"]) == ("CartPole-v1", {}, 5.0)
    assert metadata["success_rate"] is None


def test_no_episode_at_all_is_refused(tmp_path: Path):
    with pytest.raises(DemonstrationsError, match="found max_episodes=0, expected at least 1, or None"):
        RecordSuccesses(tmp_path / "a.npz", max_episodes=0)
