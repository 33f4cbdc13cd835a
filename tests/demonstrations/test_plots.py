import builtins
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image
from toy_dataset import ACTION_SPACE, make, make_dict, make_discrete

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.demonstrations.inspection.plots import MAX_STATES, plot_demonstrations, state_coverage
from sb3_pgfd.utils.files import install

pytestmark = pytest.mark.usefixtures("default_style")


def ink(path: Path) -> float:
    """Share of the pixels whose channels differ: curves, points and bars."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return float((np.ptp(pixels, axis=2) > 60).mean())


def with_observations(observations: Any) -> Demonstrations:
    return make(observations=observations, next_observations=observations)


def many(n_episodes: int, n_actions: int) -> Demonstrations:
    rng = np.random.default_rng(0)
    made = []
    for number in range(n_episodes):
        length = int(rng.integers(10, 30))
        observations: dict[str, np.ndarray] = {"state": rng.normal(size=(length + 1, 4))}
        observations["camera"] = np.zeros((length + 1, 32, 32, 3), dtype=np.uint8)
        actions = rng.uniform(-1, 1, (length, n_actions))
        made.append(Episode(observations, actions, rng.normal(size=length), bool(number % 3), success=bool(number % 2)))
    return Demonstrations.from_episodes(made, {"env_id": "Robot-v0"})


DATASETS = {
    "dict": make_dict(),
    "discrete": make_discrete(),
    "one episode": make().select([1]),
    "one transition": Demonstrations.from_episodes([Episode(np.zeros((2, 3)), np.zeros((1, 2)), np.ones(1), True)]),
    "a hundred episodes with twelve actions": many(100, 12),
    "nothing to draw of the states": with_observations(np.zeros((5, 84, 84, 3), dtype=np.uint8)),
    "one number": with_observations(np.array([0, 3, 1, 2, 5])),
    "huge numbers": with_observations(np.array([[1e300], [-1e300], [5e-324], [0], [1]])),
    "no actions": make(actions=np.zeros((5, 0))),
}


@pytest.mark.parametrize("demonstrations", DATASETS.values(), ids=DATASETS.keys())
def test_a_picture_is_not_blank(demonstrations: Demonstrations, tmp_path: Path):
    path = plot_demonstrations(demonstrations, tmp_path / "picture.png")
    assert path == tmp_path / "picture.png"
    assert ink(path) > 0.0005


def test_packaged_demonstrations_make_a_full_picture(tmp_path: Path):
    path = plot_demonstrations(Demonstrations.load("Pendulum-v1"), tmp_path / "new" / "picture.png")
    assert ink(path) > 0.02
    assert path.stat().st_size < 100_000


def test_known_bounds_are_marked(tmp_path: Path):
    marked = plot_demonstrations(make(), tmp_path / "marked.png", ACTION_SPACE)
    plain = plot_demonstrations(make(), tmp_path / "plain.png")
    orange = [
        (np.abs(np.asarray(Image.open(path).convert("RGB")).astype(int) - (255, 127, 14)).sum(axis=2) < 40).sum()
        for path in (marked, plain)
    ]
    assert orange[0] > orange[1] + 50
    discrete = plot_demonstrations(make_discrete(), tmp_path / "discrete.png", spaces.Discrete(5))
    assert ink(discrete) > 0.01


def test_other_kinds_of_pictures_are_drawn(tmp_path: Path):
    path = plot_demonstrations(make(), str(tmp_path / "picture.PDF"))
    assert path.read_bytes().startswith(b"%PDF")


def test_a_picture_is_replaced_only_if_asked(tmp_path: Path):
    path = tmp_path / "picture.png"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        plot_demonstrations(make(), path)
    assert path.read_text() == "mine"
    assert ink(plot_demonstrations(make(), path, overwrite=True)) > 0.0005
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_picture_is_refused(tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=r"expected one of .*png"):
        plot_demonstrations(make(), tmp_path / "picture.npz")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    real_import = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(f"No module named {name!r}")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=re.escape(install("plots"))):
        plot_demonstrations(make(), tmp_path / "picture.png")


def test_two_numbers_that_agree_have_one_direction():
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    coverage = state_coverage(with_observations(np.stack([x, 100 - 7 * x, np.full(5, 0.1)], axis=1)))
    assert coverage.variance.tolist() == pytest.approx([1, 0], abs=1e-12)
    # Standardised steps of 1 / sqrt(2), and their negative, on a diagonal
    assert np.abs(np.diff(coverage.points[:, 0])) == pytest.approx(np.ones(4))
    assert coverage.points[:, 1] == pytest.approx(np.zeros(5), abs=1e-12)
    assert coverage.starts == pytest.approx(coverage.points[[0, 2]])
    assert coverage.steps.tolist() == [0, 1, 0, 1, 2]


def test_the_shares_of_the_variance_follow_from_the_correlation():
    # Correlation 0.5: the eigenvalues of [[1, 0.5], [0.5, 1]] are 1.5 and 0.5
    x, y = np.array([1.0, -1, 1, -1, 1, -1, 1, -1]), np.array([1.0, -1, 1, -1, 1, -1, -1, 1])
    observations = np.stack([x, 1000 * y + 5], axis=1)
    episode = Episode(np.concatenate([observations, observations[:1]]), np.zeros((8, 1)), np.zeros(8), True)
    coverage = state_coverage(Demonstrations.from_episodes([episode]))
    assert coverage.variance.tolist() == pytest.approx([0.75, 0.25])


def test_small_images_count_and_large_ones_are_named():
    demonstrations = with_observations(
        {
            "large": np.zeros((5, 10, 9, 3)),
            "small": np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8),
            "flag": np.array([0, 1, 0, 0, 1], dtype=bool),
        }
    )
    coverage = state_coverage(demonstrations)
    assert coverage.left_out == ["large 10x9x3"]
    assert coverage.points.shape == (5, 2)


def test_of_many_states_some_are_taken():
    n = MAX_STATES + 1000
    states = np.random.default_rng(0).normal(size=(n + 1, 2))
    coverage = state_coverage(Demonstrations.from_episodes([Episode(states, np.zeros((n, 1)), np.zeros(n), True)]))
    assert coverage.points.shape == (MAX_STATES, 2)
    assert len(np.unique(coverage.steps)) == MAX_STATES
    assert coverage.steps.max() > n - 1000
