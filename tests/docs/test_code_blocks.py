"""
Every code block of the README, the site and the other pages. The blocks of a page run one after the other in one folder, as
a reader would run them, with short runs (``short_runs``). See ``doc_blocks`` for the comments that a page may have before a
block.
"""

import ast
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml
from doc_blocks import PAGES, ROOT, Block, blocks, joined
from short_runs import short_runs

from benchmarks.sparse_suite import settings
from benchmarks.sparse_suite.tasks import TASKS
from sb3_pgfd.cli import main
from sb3_pgfd.td3fd import TD3fD
from sb3_pgfd.zoo.hyperparameters import check_names

# What a page says that the reader has, as Python
GIVEN = {
    "README.md": "import my_package",
    "docs/sparse_rewards.md": "import crane, gymnasium as gym\nenv = gym.make('Crane-v0')",
    "docs/existing_sac.md": """
import crane
from stable_baselines3 import SAC
first = SAC("MlpPolicy", "Crane-v0", gamma=0.98)
first.learn(200)
first.save("sac.zip")
first.save_replay_buffer("sac_buffer.pkl")
env = first.get_env()
""",
    "docs/algorithms/index.md": "import crane\nenv, demonstrations = 'Crane-v0', 'crane.npz'",
    "docs/export.md": """
import numpy as np
from sb3_pgfd import TD3fD
model = TD3fD("MlpPolicy", "Pendulum-v1", demonstrations="Pendulum-v1")
observations = np.zeros((2, 3), np.float32)
""",
    "docs/resume.md": "import crane, gymnasium as gym\ndef make_env():\n    return gym.make('Crane-v0')",
    "docs/speed.md": "import crane\nenv = 'Crane-v0'",
    "docs/real_robot.md": """
import gymnasium as gym
import examples.two_link_arm
env = gym.make("TwoLinkArm-v0")
def classifier(observation):
    return 0.0
""",
}
# Pages whose commands begin with runs that are there
WITH_RUNS = ("docs/cheat_sheet.md", "docs/demonstrations.md", "docs/zoo.md", "docs/tuning.md", "docs/resume.md")
RUNS = (("ddpgfd", "Pendulum-v1"), ("td3fd", "FetchReach-v4"), ("sac", "Pendulum-v1"))

MY_PACKAGE = """
import gymnasium as gym

gym.register("MyEnv-v0", entry_point="crane:Crane", max_episode_steps=100)
"""
PAGES_WITH_BLOCKS = [page for page in PAGES if any(True for _ in blocks(page))]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: the files of the crane under the names of the pages, demonstrations, and some runs."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("crane.py", "crane.yml"):
        shutil.copy(ROOT / "examples" / name, folder)
    (folder / "my_package.py").write_text(MY_PACKAGE)
    (folder / "my_controller.py").write_text("from crane import controller as act\n")
    crane = (folder / "crane.yml").read_text()
    (folder / "my.yml").write_text(crane.replace("Crane-v0", "MyEnv-v0").replace("crane.npz", "my_demos.npz"))
    with pytest.MonkeyPatch.context() as patch, short_runs():
        patch.chdir(folder)
        command = "demos record my_demos.npz --env Crane-v0 --gym-packages crane --policy crane:controller --episodes 5"
        run(patch, shlex.split(command))
        shutil.copy("my_demos.npz", "crane.npz")
        for algo, env_id in RUNS:
            policy = ["-params", 'policy:"MultiInputPolicy"'] if env_id.startswith("Fetch") else []
            run(patch, ["train", "--algo", algo, "--env", env_id, *policy])
    return folder


def run(patch: pytest.MonkeyPatch, arguments: Sequence[str]) -> None:
    patch.setattr(sys, "argv", ["sb3-pgfd"])
    assert main(arguments) == 0, shlex.join(arguments)


def run_shell(block: Block, patch: pytest.MonkeyPatch) -> None:
    """
    Run the commands of this package in this process, which is faster than a shell. Of make and of benchmarks, which take long,
    check that they exist.
    """
    lines = (line for line in joined(block.text).splitlines() if line and not line.startswith("#"))
    commands = [shlex.split(command, comments=True) for line in lines for command in re.split(r"&&", line)]
    for words in commands:
        if words[0] == "sb3-pgfd":
            run(patch, words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif words[0] in ("python", "python3") and words[1] == "-m":
            assert importlib.util.find_spec(words[2]) is not None, words
        else:
            assert words[0] in ("pip", "cd", ".", "minari"), f"{block}: found the command {words}, which no test knows"


def check(block: Block) -> None:
    """Of every block, also of one that is not run."""
    if block.language == "python":
        compile(block.text, str(block), "exec")
    elif block.language == "bash":
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    elif block.language == "yaml":
        for name, entry in yaml.safe_load(block.text).items():
            if isinstance(entry, dict) and "policy" in entry:
                check_names(TD3fD, entry, set(), f"{block}: {name}")


@pytest.mark.parametrize("page", PAGES_WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(
    page: Path,
    tmp_path: Path,
    reader: Path,
    monkeypatch: pytest.MonkeyPatch,
    default_style: None,
    recwarn: pytest.WarningsRecorder,
) -> None:
    name, found = str(page.relative_to(ROOT)), list(blocks(page))
    folder = tmp_path / "page"
    shutil.copytree(reader, folder, ignore=None if name in WITH_RUNS else shutil.ignore_patterns("logs"))
    if any("record crane.npz" in block.text for block in found):
        (folder / "crane.npz").unlink()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace: dict[str, Any] = {"__name__": "page"}
    with short_runs():
        exec(GIVEN.get(name, ""), namespace)
        for block in found:
            check(block)
            if block.skipped is not None:
                continue
            if block.language == "python":
                # Lines of an error are those of the page
                exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
            elif block.language == "bash":
                run_shell(block, monkeypatch)
            elif block.language == "yaml" and (file := re.match(r"# (\w+\.yml)\n", block.text)):
                Path(file[1]).write_text(block.text)


def test_blocks_that_are_not_run_say_why() -> None:
    skipped = [block for page in PAGES for block in blocks(page) if block.skipped is not None]
    assert all(len(block.skipped or "") > 10 for block in skipped)
    # Most blocks run
    assert len(skipped) < sum(len(list(blocks(page))) for page in PAGES) / 4


def test_the_controller_of_the_crane_solves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    module = importlib.import_module("crane")
    env = gym.make("Crane-v0", render_mode="rgb_array")
    controller: Callable[[Any], Any] = module.controller
    n_solved = 0
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            observation, reward, terminated, truncated, info = env.step(controller(observation))
            assert (reward, terminated) == (float(info["is_success"]), info["is_success"])
            over = terminated or truncated
        n_solved += info["is_success"]
    assert n_solved == 20
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    picture = env.render()
    assert isinstance(picture, type(observation))
    assert (picture.shape, picture.dtype) == ((192, 320, 3), "uint8")


def test_the_crane_of_the_page_is_the_one_to_copy() -> None:
    page = (ROOT / "docs" / "own_task.md").read_text()
    for name in ("crane.py", "crane.yml"):
        assert f"\n{(ROOT / 'examples' / name).read_text()}```\n" in page, f"copy examples/{name} into docs/own_task.md"


def test_the_sac_to_copy_is_the_one_that_was_measured() -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "existing_sac.md") if "LayerNormSACPolicy" in block.text]
    assert inspect.getsource(settings.LayerNormSACPolicy) in block.text
    (call,) = [
        node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Call) and ast.unparse(node.func) == "SAC"
    ]
    found = {word.arg: ast.unparse(word.value) for word in call.keywords}
    gamma = TASKS["peg-insert-side"].gamma
    of_buffer = {
        name: value for name, value in settings.SAC_DEMOS["replay_buffer_kwargs"].items() if name not in settings.HINDSIGHT
    }
    expected = {**settings.SAC_DEMOS, "gamma": gamma} | {
        "replay_buffer_kwargs": {"demonstrations": "my_demos.npz", **of_buffer, "gamma": gamma}
    }
    classes = {name: expected.pop(name).__name__ for name in ("policy", "replay_buffer_class")}
    assert (ast.unparse(call.args[0]), found.pop("replay_buffer_class")) == tuple(classes.values())
    assert {name: ast.literal_eval(value) for name, value in found.items()} == expected
