"""Exported policies do what ``predict`` does."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import A2CfD, DDPGfD, SACfD, TD3fD

BOX = spaces.Box(-5.0, 5.0, (3,))
IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
DICT = spaces.Dict({"cell": spaces.Discrete(4), "goal": spaces.Box(-5.0, 5.0, (2,), np.float64), "image": IMAGE})
ACTIONS = spaces.Box(np.array([-1.0, 0.0], dtype=np.float32), np.array([2.0, 40.0], dtype=np.float32))


class Random(gym.Env):
    """Anything may come."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space):
        self.observation_space, self.action_space = observation_space, action_space
        observation_space.seed(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def make_model(
    algorithm: Any,
    space: spaces.Space,
    action_space: spaces.Space = ACTIONS,
    normalize: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """:return: A model that has learned for some steps, with weights that make all of its outputs differ"""
    th.manual_seed(0)
    env: Any = DummyVecEnv([lambda: Random(space, action_space)])
    env = env if normalize is None else VecNormalize(env, **normalize)
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy" if space is IMAGE else "MlpPolicy"
    small = {"buffer_size": 50, "learning_starts": 5, "batch_size": 4} if algorithm is not A2CfD else {}
    model = algorithm(policy, env, policy_kwargs={"net_arch": [16]}, seed=0, device="cpu", **small, **options)
    model.learn(20)
    for parameter in model.policy.parameters():
        th.nn.init.normal_(parameter, std=0.2 if parameter.ndim == 1 else 2.0 * parameter[0].numel() ** -0.5)
    return model


def inputs(space: spaces.Space, batch_size: int) -> dict[str, np.ndarray]:
    """:return: Raw observations by the names of the file's inputs"""
    subspaces = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    found = {key: np.stack([one.sample() for _ in range(batch_size)]) for key, one in subspaces.items()}
    return {key: array.astype(np.float32) if array.dtype == np.float64 else array for key, array in found.items()}


def predicted(model: Any, observations: dict[str, np.ndarray]) -> np.ndarray:
    seen: Any = observations if isinstance(model.observation_space, spaces.Dict) else observations["observation"]
    normalize = model.get_vec_normalize_env()
    return model.predict(seen if normalize is None else normalize.normalize_obs(seen), deterministic=True)[0]


def acts(path: Path, observations: dict[str, np.ndarray]) -> np.ndarray:
    if path.suffix == ".pt":
        return th.jit.load(str(path))(*map(th.as_tensor, observations.values())).numpy()
    session = onnxruntime.InferenceSession(path)
    assert [one.name for one in session.get_inputs()] == list(observations)
    assert [one.name for one in session.get_outputs()] == ["action"]
    return session.run(None, observations)[0]


MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "DDPGfD": (DDPGfD, {"space": BOX}),
    # The mean of the actors, which SB3's documentation does not look for, and a normalised observation
    "TD3fD": (TD3fD, {"space": BOX, "normalize": {"clip_obs": 1.0}}),
    "images": (DDPGfD, {"space": IMAGE}),
    "Dict": (TD3fD, {"space": DICT, "normalize": {"norm_obs_keys": ["goal"]}}),
    "SACfD": (SACfD, {"space": BOX}),
    "SACfD Dict": (SACfD, {"space": DICT}),
    "A2CfD": (A2CfD, {"space": BOX, "normalize": {}}),
    "gSDE": (A2CfD, {"space": BOX, "use_sde": True}),
    "A2CfD Dict": (A2CfD, {"space": DICT, "normalize": {"norm_obs": False}}),
    "Discrete": (A2CfD, {"space": BOX, "action_space": spaces.Discrete(3)}),
    "MultiDiscrete": (A2CfD, {"space": BOX, "action_space": spaces.MultiDiscrete([2, 3])}),
    "MultiBinary": (A2CfD, {"space": spaces.Discrete(5), "action_space": spaces.MultiBinary(4)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_acts_as_the_model_predicts(name: str, tmp_path: Path) -> None:
    algorithm, options = MODELS[name]
    model = make_model(algorithm, **options)
    for path in (tmp_path / "policy.onnx", tmp_path / "policy.pt"):
        assert model.export(path) == path
        for batch_size in (1, 7):
            observations = inputs(options["space"], batch_size)
            expected, found = predicted(model, observations), acts(path, observations)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "policy.onnx", tmp_path / "policy.pt"]
    assert len(np.unique(predicted(model, inputs(options["space"], 50)))) > 1


def test_the_model_goes_on_as_before(tmp_path: Path) -> None:
    model = make_model(TD3fD, BOX)
    model.policy.set_training_mode(True)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    validates = th.distributions.Distribution._validate_args
    model.export(tmp_path / "policy.pt")
    assert model.policy.training
    assert all(parameter.requires_grad for parameter in model.actor.parameters())
    assert all(th.equal(value, before[name]) for name, value in model.policy.state_dict().items())
    assert th.distributions.Distribution._validate_args == validates
    model.learn(10)


def test_a_file_is_replaced_and_another_ending_is_refused(tmp_path: Path) -> None:
    model = make_model(DDPGfD, BOX)
    path = tmp_path / "policy.pt"
    path.write_text("old")
    model.export(path)
    observations = inputs(BOX, 3)
    np.testing.assert_allclose(acts(path, observations), predicted(model, observations), rtol=1e-5)
    with pytest.raises(ValueError, match=r"export: found the ending '.pth' in .*, expected .onnx or .pt"):
        model.export(tmp_path / "policy.pth")


@pytest.mark.parametrize("algorithm", [DDPGfD, A2CfD])
def test_statistics_that_are_missing_are_named(algorithm: Any, tmp_path: Path) -> None:
    for norm_obs in (True, False):
        model = make_model(algorithm, BOX, normalize={"norm_obs": norm_obs})
        model.save(tmp_path / "model")
        loaded = algorithm.load(tmp_path / "model", device="cpu")
        if norm_obs:
            with pytest.raises(ValueError, match="a model that learned from normalised observations and no VecNormalize"):
                loaded.export(tmp_path / "policy.pt")
            assert not (tmp_path / "policy.pt").exists()
        else:
            loaded.export(tmp_path / "policy.pt")


def test_without_the_library_of_onnx_the_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['onnxscript'] = None\n"
        "from sb3_pgfd import DDPGfD\nmodel = DDPGfD('MlpPolicy', 'Pendulum-v1', buffer_size=9)\n"
        "try:\n    model.export('policy.onnx')\nexcept ImportError as error:\n    print(error)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert "pip install sb3-pgfd[export]" in finished.stdout
    assert list(tmp_path.iterdir()) == []
