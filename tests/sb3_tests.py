"""
Runs SB3's own tests with A2CfD in the place of A2C and DDPGfD in the place of DDPG, or with RayVecEnv in the place of
SubprocVecEnv.

    git clone --branch v2.9.2 https://github.com/DLR-RM/stable-baselines3
    python tests/sb3_tests.py stable-baselines3/tests                    # all files
    python tests/sb3_tests.py stable-baselines3/tests test_spaces.py -x  # one file, with an option of pytest
    python tests/sb3_tests.py --ray stable-baselines3/tests test_vec_envs.py     # those of parallel environments

The folder is copied to a temporary place first, because the tests write files. Only those tests run that use A2C or DDPG; at
the end each one that fails is listed with its reason. docs/decisions.md says why those that still fail should.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_pgfd

REPLACED = {"A2C": sb3_pgfd.A2CfD, "DDPG": sb3_pgfd.DDPGfD}

_ON_RAY = "SB3_TESTS_ON_RAY"


def pytest_configure(config: pytest.Config) -> None:
    """pytest reads this file as a plugin too. SB3's tests import the algorithms from ``stable_baselines3``."""
    if _ON_RAY in os.environ:
        from stable_baselines3.common import vec_env

        from sb3_pgfd.distributed import RayVecEnv

        class SubprocVecEnv(RayVecEnv):
            def __init__(self, env_fns: Any, start_method: str | None = None):
                super().__init__(env_fns, num_cpus=0)

        vec_env.SubprocVecEnv = SubprocVecEnv  # type: ignore[misc, assignment]
        return
    for name, algorithm in REPLACED.items():
        setattr(stable_baselines3, name, algorithm)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of other algorithms, or of other environments."""
    chosen = [item for item in items if isinstance(item, pytest.Function) and _is_concerned(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _is_concerned(item: pytest.Function) -> bool:
    if _ON_RAY in os.environ:
        from stable_baselines3.common import vec_env

        chosen = list(_flatten(item.callspec.params.values())) if hasattr(item, "callspec") else []
        return vec_env.SubprocVecEnv in chosen or "SubprocVecEnv" in _names(item.function, item.module, set())
    values = list(_flatten(item.callspec.params.values())) if hasattr(item, "callspec") else []
    named = {value.upper() for value in values if isinstance(value, str)}
    algorithms = [value for value in values if isinstance(value, type) and issubclass(value, BaseAlgorithm)]
    if algorithms:
        return any(algorithm in REPLACED.values() for algorithm in algorithms)
    if named & {"PPO", "SAC", "TD3", "DQN"}:
        return False
    return bool(REPLACED.keys() & (named | _names(item.function, item.module, set(item.fixturenames))))


def _flatten(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flatten(value)
        else:
            yield value


def _names(function: FunctionType, module: Any, names: set[str]) -> set[str]:
    """:return: ``names``, and the names that a test, its fixtures and the functions of its module that it calls refer to"""
    codes: list[CodeType] = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        names |= set(code.co_names)
    for name in sorted(names):
        called = getattr(module, name, None)
        called = getattr(called, "__wrapped__", called)
        if isinstance(called, FunctionType) and called.__module__ == module.__name__ and called is not function:
            names |= _names(called, module, set())
    return names


def run(tests: Path, arguments: list[str], on_ray: bool = False) -> Path:
    """
    :param tests: Folder ``tests`` of a checkout of SB3
    :param arguments: Files in it, and options of pytest; without files all that mention the replaced algorithms
    :param on_ray: Whether to replace SubprocVecEnv
    :return: pytest's report in JUnit's format
    """
    work = Path(tempfile.mkdtemp(prefix="sb3_tests_"))
    shutil.copytree(tests, work / "tests")
    pattern = re.compile(rf"\b({'SubprocVecEnv' if on_ray else '|'.join(REPLACED)})\b")
    files = [path.name for path in sorted((work / "tests").glob("test_*.py")) if pattern.search(path.read_text())]
    if any(argument.partition("::")[0].endswith(".py") for argument in arguments):
        files = []
    # test_utils.py imports it for Atari, which none of these tests plays
    if importlib.util.find_spec("ale_py") is None:
        (work / "ale_py.py").touch()
    here = Path(__file__).resolve().parent
    paths = os.pathsep.join([str(here), str(here.parent), str(work), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-p", "sb3_tests", "-p", "no:cacheprovider", "-q", "--tb=short"]
    command += ["--continue-on-collection-errors", "-W", "ignore::pytest.PytestUnknownMarkWarning"]
    command += ["--rootdir", str(work), "--junitxml", str(work / "report.xml"), *files, *arguments]
    variables = {**os.environ, "PYTHONPATH": paths, **({_ON_RAY: "1"} if on_ray else {})}
    subprocess.run(command, cwd=work / "tests", env=variables, check=False)
    return work / "report.xml"


def report(path: Path) -> int:
    """
    Print how many tests passed, and each one that failed with the first line of its reason.

    :param path: Report in JUnit's format
    :return: How many failed
    """
    cases = list(ElementTree.parse(path).iter("testcase"))
    failed = [(case, found) for case in cases for found in case if found.tag in ("failure", "error")]
    skipped = sum(case.find("skipped") is not None for case in cases)
    print(f"\n{len(cases) - len(failed) - skipped} passed, {len(failed)} failed, {skipped} skipped")
    for case, found in failed:
        reason = (found.get("message") or "").splitlines() or [""]
        print(f"{str(case.get('classname')).rpartition('.')[2]}.py::{case.get('name')}\n    {reason[0][:240]}")
    return len(failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", type=Path, help="folder `tests` of a checkout of SB3")
    parser.add_argument("--ray", action="store_true", help="RayVecEnv in the place of SubprocVecEnv, and nothing else")
    args, arguments = parser.parse_known_args()
    if not (args.tests / "test_run.py").is_file():
        parser.error(f"tests: found no test_run.py in {args.tests}, expected the folder `tests` of a checkout of SB3")
    sys.exit(report(run(args.tests, arguments, args.ray)) > 0)


if __name__ == "__main__":
    main()
