"""Compiled updates against eager ones."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.logger import Logger

from sb3_pgfd import DDPGfD, SACfD, TD3fD
from sb3_pgfd.common import compilation
from sb3_pgfd.common.updates import tensors_of
from sb3_pgfd.demonstrations import Demonstrations, Episode

DEVICES = ["cpu", *(["cuda"] if th.cuda.is_available() else [])]
MakeModel = Callable[..., TD3fD]


@pytest.fixture(scope="module")
def episodes() -> Demonstrations:
    """Steps with rewards of either sign, so that no gradient is zero but for rounding."""
    rng = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return Demonstrations.from_episodes(
        [Episode(np.tanh(draw(21, 3)), np.tanh(draw(20, 1)) * 2, draw(20), terminated=bool(number % 2)) for number in range(5)]
    )


def updated(algorithm: Any, episodes: Demonstrations, compiled: bool, device: str, n_updates: int, **options: Any) -> Any:
    """:return: A model after some updates"""
    policy_kwargs = {"net_arch": [32], **options.pop("policy_kwargs", {})}
    if algorithm is TD3fD:
        # Small programs are compiled sooner
        policy_kwargs = {"n_critics": 2, "n_target_critics": None, **policy_kwargs}
        options = {"proposals": False, "q_filter": False, **options}
    model = algorithm(
        "MlpPolicy",
        "Pendulum-v1",
        demonstrations=episodes,
        # Observations that are on the device already take another way into compiled updates
        replay_buffer_kwargs={"demo_fraction": 1.0, "storage_device": device if compiled else None},
        policy_kwargs=policy_kwargs,
        compile=compiled,
        device=device,
        seed=0,
        **options,
    )
    np.random.seed(1)
    th.manual_seed(1)
    model.set_logger(Logger(folder=None, output_formats=[]))
    train(model, n_updates, options)
    return model


def train(model: Any, n_updates: int, options: dict[str, Any]) -> None:
    for number in range(n_updates // 2):
        if number == n_updates // 4 and options.get("proposals"):
            # After the updates were compiled
            with th.no_grad():
                list(model.policy.clone.parameters())[-1].fill_(2.0)
            model.policy.clone_is_trained.fill_(True)
        model.train(2, 16)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    # The last is the limit on a GPU, whose fused sums round otherwise: an H200 had 4.6e-5 and 2.1e-5 in the two that have more
    ("algorithm", "options", "on_gpu"),
    [
        (TD3fD, dict(q_filter=True, critic_warmup_steps=0, bc_coef=0.5), 1e-5),
        (
            TD3fD,
            dict(proposals="soft", policy_delay=1, bc_coef=0.5, policy_kwargs={"n_critics": 4, "n_target_critics": 2}),
            1e-4,
        ),
        (
            SACfD,
            dict(entropy_backup=True, bc_coef=0.5, policy_kwargs={"n_critics": 3, "n_target_critics": 2}),
            1e-4,
        ),
        (DDPGfD, dict(bc_coef=1.0, q_filter=True, q_range=(-5.0, 5.0), policy_kwargs={"actor_dropout": 0.2}), 1e-5),
    ],
)
def test_200_updates_end_at_the_same_parameters(
    algorithm: Any, options: dict[str, Any], on_gpu: float, device: str, episodes: Demonstrations
) -> None:
    settings = {**options, "learning_rate": 1e-4}
    eager = updated(algorithm, episodes, False, device, 200, **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compile=True")
        compiled = updated(algorithm, episodes, True, device, 200, **settings)
    limit = on_gpu if device == "cuda" else 1e-5
    for name, value in eager.policy.state_dict().items():
        assert (value.double() - compiled.policy.state_dict()[name].double()).abs().max() <= limit, name
    means, expected = compiled._metrics.flush(), eager._metrics.flush()
    assert means.keys() == expected.keys()
    assert means == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_an_optimiser_that_cannot_be_compiled_is_named_and_learning_goes_on(episodes: Demonstrations) -> None:
    options = dict(policy_kwargs={"optimizer_class": th.optim.Adamax})
    with pytest.warns(UserWarning, match="compile=True: the update cannot be compiled here .*Adamax, expected Adam") as found:
        compiled = updated(TD3fD, episodes, True, "cpu", 8, **options)
    assert [warning.filename for warning in found] == [__file__]
    eager = updated(TD3fD, episodes, False, "cpu", 8, **options)
    for one, other in zip(compiled.policy.parameters(), eager.policy.parameters(), strict=True):
        assert th.allclose(one, other, atol=1e-6)


def test_a_compiled_update_that_differs_is_not_used(episodes: Demonstrations, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(function: Any, inputs: Any) -> Any:
        return lambda given: [tensor.clone() for tensor in inputs[:2]]

    monkeypatch.setattr("sb3_pgfd.common.compilation.traced", wrong)
    with pytest.warns(UserWarning, match="differs by"):
        compiled = updated(DDPGfD, episodes, True, "cpu", 8)
    eager = updated(DDPGfD, episodes, False, "cpu", 8)
    for one, other in zip(compiled.policy.parameters(), eager.policy.parameters(), strict=True):
        assert th.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_updates_go_on_eagerly_when_a_later_program_cannot_be_made(
    device: str, episodes: Demonstrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = dict(policy_delay=1, bc_coef=0.5, learning_rate=1e-4)
    models = [updated(TD3fD, episodes, compiled, device, 8, **options) for compiled in (False, True)]
    way = "captured" if device == "cuda" else "traced"
    make = getattr(compilation, way)

    def reading(function: Any, inputs: Any) -> Any:
        def read(tensors: Any) -> Any:
            # A GPU cannot tell a number while it is captured, and a tracer has none
            float(tensors[0].sum())
            return function(tensors)

        return make(read, inputs)

    monkeypatch.setattr(compilation, way, reading)
    np.random.seed(2)
    th.manual_seed(2)
    models[0].tau = models[1].tau = 0.5
    train(models[0], 8, options)
    np.random.seed(2)
    th.manual_seed(2)
    with pytest.warns(UserWarning, match="compile=True: the update cannot be compiled here") as found:
        train(models[1], 8, options)
    assert len(found) == 1
    for one, other in zip(*(model.policy.parameters() for model in models), strict=True):
        assert (one - other).abs().max() <= 1e-5


@pytest.mark.parametrize("device", DEVICES)
def test_compiled_bf16_updates_stay_near_eager_ones(device: str, episodes: Demonstrations) -> None:
    options: dict[str, Any] = dict(learning_rate=1e-4, policy_kwargs={"precision": "bf16", "net_arch": [64, 64]})
    eager = updated(DDPGfD, episodes, False, device, 20, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compile=True")
        compiled = updated(DDPGfD, episodes, True, device, 20, **options)
    for value, expected in zip(compiled.policy.parameters(), eager.policy.parameters(), strict=True):
        # Steps of Adam are at most 1e-4 long each, and where a gradient is near 0 rounding decides its sign
        assert (value - expected).abs().max() <= 20 * 2e-4
        assert (value - expected).abs().mean() <= 2e-4


def test_bf16_products_stay_near_float32_ones(episodes: Demonstrations) -> None:
    backend: Any = th.backends.mkldnn
    before = backend.matmul.fp32_precision
    one = updated(DDPGfD, episodes, False, "cpu", 2, policy_kwargs={"precision": "bf16", "net_arch": [256, 256]})
    other = updated(DDPGfD, episodes, False, "cpu", 2, policy_kwargs={"net_arch": [256, 256]})
    assert backend.matmul.fp32_precision == before
    for value, expected in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        # Two steps of Adam are at most 0.001 long each, and some go the other way
        assert (value - expected).abs().max() <= 4.1e-3
        assert (value - expected).abs().mean() <= 5e-4
    with pytest.raises(ValueError, match="precision: found 'half'"):
        updated(DDPGfD, episodes, False, "cpu", 0, policy_kwargs={"precision": "half"})


def changed(episodes: Demonstrations, compiled: bool, change: Callable[[Any, Any], None], values: list[Any]) -> Any:
    """:return: A model that was updated with each of the values, and what it logged"""
    model = updated(DDPGfD, episodes, compiled, "cpu", 8, learning_rate=1e-4, q_range=[-5.0, 5.0], bc_coef=1.0)
    model._metrics.flush()
    logged = []
    for value in values:
        change(model, value)
        train(model, 8, {})
        logged.append(model._metrics.flush())
    return model, logged


def set_rate(model: Any, rate: float) -> None:
    # Loading puts other groups into the optimisers
    model.set_parameters(model.get_parameters())
    model.lr_schedule = model.actor_lr_schedule = lambda _: rate


@pytest.mark.parametrize(
    ("change", "values"),
    [
        # A program that was made before comes back, with the names of what it logs
        (lambda model, value: setattr(model, "bc_coef", value), [0.0, 1.0, 0.0]),
        # Yaml gives a list
        (lambda model, value: setattr(model, "q_range", value), [[0.5, 0.6], [-5.0, 5.0]]),
        (lambda model, value: setattr(model, "tau", np.float32(value)), [0.5, 0.01]),
        (set_rate, [1e-6, 1e-3]),
    ],
    ids=["bc_coef", "q_range", "tau", "learning_rate"],
)
def test_what_a_callback_changes_counts(
    change: Callable[[Any, Any], None], values: list[Any], episodes: Demonstrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The traced program without inductor, which takes half a minute for each
    monkeypatch.setattr(th, "compile", lambda graph, **options: graph)
    (eager, expected), (compiled, found) = (changed(episodes, flag, change, values) for flag in (False, True))
    for means, others in zip(found, expected, strict=True):
        assert means == pytest.approx(others, rel=1e-3, abs=1e-5)
    for one, other in zip(eager.policy.parameters(), compiled.policy.parameters(), strict=True):
        assert (one - other).abs().max() <= 1e-6


def test_nothing_is_compiled_anew_for_options_that_no_update_reads(
    episodes: Demonstrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(th, "compile", lambda graph, **options: graph)
    model = updated(DDPGfD, episodes, True, "cpu", 8)
    n_programs = len(model._updates._compiled._functions)
    model.gradient_steps, model.learning_starts = 7, 3
    train(model, 8, {})
    assert len(model._updates._compiled._functions) == n_programs


def test_one_batch_has_the_layout_of_several(episodes: Demonstrations) -> None:
    """torch compiles once more for tensors that lie otherwise in memory."""
    buffer = updated(DDPGfD, episodes, False, "cpu", 0).buffer
    one, several = (tensors_of(buffer.sample_batches(n_batches, 4).split(n_batches)[0]) for n_batches in (1, 3))
    assert [tensor.stride() for tensor in one] == [tensor.stride() for tensor in several]
