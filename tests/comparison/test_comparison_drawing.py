"""The figure of a comparison."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_folders import make_run

from sb3_pgfd.comparison import Curve, Reference, aggregate, draw
from sb3_pgfd.comparison.drawing import COLORS
from sb3_pgfd.demonstrations import DemonstrationsError

pytestmark = pytest.mark.usefixtures("default_style")


def curves(n_labels: int = 2, n_envs: int = 1, n_seeds: int = 2, success: bool = False) -> list[Curve]:
    runs = [
        make_run(
            {0: i, 500: 2 * i + seed, 1000: 5.0 * i + seed},
            f"label {i}",
            f"Env{env}-v0",
            successes=[0, 0.5, 1] if success else None,
        )
        for env in range(n_envs)
        for i in range(n_labels)
        for seed in range(n_seeds)
    ]
    return aggregate(runs, reps=50)[0]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def count(image: np.ndarray, color: str) -> int:
    """:return: Pixels of this very colour"""
    return int((image == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum())


def test_every_label_has_its_colour(tmp_path: Path):
    image = pixels(draw(curves(6), [], tmp_path / "six.png"))
    assert min(count(image, color) for color in COLORS) > 100


def test_demonstrations_are_a_dashed_black_line(tmp_path: Path):
    without = pixels(draw(curves(), [], tmp_path / "without.png"))
    image = pixels(draw(curves(), [Reference("Env0-v0", "toy", 3.0, None)], tmp_path / "with.png"))
    black = (image == 0).all(axis=2)
    row = black[int(np.argmax(black[:-60].sum(axis=1)))]
    # Spines and ticks are black too, so count what is longer than those of the other picture
    edges = np.flatnonzero(np.diff(row.astype(int)) == 1)
    assert len(edges) > 20
    assert count(image, "#000000") > count(without, "#000000") + 300
    elsewhere = pixels(draw(curves(), [Reference("Other-v0", "toy", 3.0, None)], tmp_path / "elsewhere.png"))
    np.testing.assert_array_equal(elsewhere, without)


def test_a_row_for_each_environment_and_a_column_for_success(tmp_path: Path):
    one = pixels(draw(curves(), [], tmp_path / "one.png")).shape
    four = pixels(draw(curves(n_envs=4), [], tmp_path / "four.png")).shape
    wide = pixels(draw(curves(success=True), [Reference("Env0-v0", "toy", 1.0, 0.9)], tmp_path / "wide.png")).shape
    assert four[0] > 3 * one[0]
    assert four[1] == one[1]
    assert wide[0] == one[0]
    assert wide[1] > 1.5 * one[1]
    # One run that does not know success is enough for no such plot
    mixed = [*curves(1, success=True), *curves(2)[1:]]
    assert pixels(draw(mixed, [], tmp_path / "mixed.png")).shape == one


def test_bands_are_drawn_for_several_seeds_only(tmp_path: Path):
    red, green, blue = (int(COLORS[0][i : i + 2], 16) for i in (1, 3, 5))
    several = pixels(draw(curves(1, n_seeds=3), [], tmp_path / "several.png"))
    single = pixels(draw(curves(1, n_seeds=1), [], tmp_path / "single.png"))
    # The colour at 18 %, on white and not on a line of the grid
    shade = np.array([255 - 0.18 * (255 - value) for value in (red, green, blue)])
    assert (np.abs(several - shade) < 2).all(axis=2).sum() > 500
    assert (np.abs(single - shade) < 2).all(axis=2).sum() < 50
    assert count(single, COLORS[0]) > 100


def test_the_same_curves_give_the_same_picture(tmp_path: Path):
    first, second = (draw(curves(3), [], tmp_path / name, title="a title").read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_other_formats_can_be_had_but_not_any(tmp_path: Path):
    assert draw(curves(), [], tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(DemonstrationsError, match=r"found the ending '\.doc'"):
        draw(curves(), [], tmp_path / "a.doc")


def test_a_file_is_replaced_only_if_asked(tmp_path: Path):
    (tmp_path / "a.png").write_text("precious")
    with pytest.raises(FileExistsError, match=r"a\.png"):
        draw(curves(), [], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_text() == "precious"
    assert pixels(draw(curves(), [], tmp_path / "a.png", overwrite=True)).std() > 10
