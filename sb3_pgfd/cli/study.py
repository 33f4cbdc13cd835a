"""``sb3-pgfd study``: a grid of tasks, algorithms, settings and seeds, trained as tasks of Ray."""

import argparse
import csv
import json
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sb3_pgfd.common.training_state import sets
from sb3_pgfd.comparison.runs import STUDY_COLUMNS, STUDY_RESULTS, read_evaluations
from sb3_pgfd.utils.checks import is_number, is_whole
from sb3_pgfd.utils.files import hold, near, write_whole
from sb3_pgfd.utils.keywords import check_keywords
from sb3_pgfd.zoo import ALGORITHMS, register
from sb3_pgfd.zoo.command_line import CommandError, find_in_current_folder, register_environments, require_registered
from sb3_pgfd.zoo.commands import run_in
from sb3_pgfd.zoo.resuming import STATE

_KEYS = {"tasks", "algorithms", "settings", "seeds", "n_timesteps", "arguments", "num_cpus", "num_gpus", "retries", "config"}
# Not among `arguments`, which are for all cells and come behind what names one
_ELSEWHERE = {
    **dict.fromkeys(("-params", "--hyperparams"), "its options in tasks or settings"),
    **dict.fromkeys(("-conf", "--conf-file"), "it as config of the study"),
    **dict.fromkeys(("-optimize", "--optimize-hyperparameters", "--dry-run"), "none: a study trains"),
    "--resume": "none: the same command goes on with a study",
    **dict.fromkeys(("--algo", "--env", "--seed", "--seeds", "-f", "--log-folder"), "none: the study sets it for each cell"),
}
_RESULT, _CELL, _OUTPUT = "result.json", "cell.json", "output.txt"


@dataclass(frozen=True)
class Cell:
    """One run: an algorithm with a setting and a seed on a task."""

    task: str
    env: str
    algorithm: str
    setting: str
    seed: int
    options: Mapping[str, Any]
    """Hyperparameters in place of the entry's"""
    arguments: tuple[str, ...]
    """More of ``train``"""

    def __str__(self) -> str:
        return f"{self.task} {self.algorithm} {self.setting}, seed {self.seed}"

    def folder(self, study: Path) -> Path:
        """:param study: Folder of the study"""
        return study / "cells" / self.task.replace("/", "-") / self.algorithm / self.setting / f"seed_{self.seed}"

    @property
    def command(self) -> list[str]:
        """Arguments of ``train``, but for the folder"""
        options = [f"{name}:{value!r}" for name, value in self.options.items()]
        params = ["-params", *options] if options else []
        named = ["--algo", self.algorithm, "--env", self.env, "--seed", str(self.seed)]
        return ["--no-progress", *named, *self.arguments, *params]


class Grid:
    """
    The cells of a study, and what each reserves.

    :param path: A yaml, see docs/distributed.md
    :raises CommandError: If it cannot be read, or names something unknown
    """

    def __init__(self, path: Path):
        self.path, self._given = path.resolve(), _read(path)
        self.resources = {name: float(self._given[name]) for name in ("num_cpus", "num_gpus") if name in self._given}
        self.retries = self._given.get("retries", 2)
        self.cells = list(self._make_cells())
        for cell in self.cells:
            if "--gym-packages" not in cell.arguments:
                require_registered(cell.env, [])

    def _make_cells(self) -> Iterator[Cell]:
        from sb3_pgfd.zoo.hyperparameters import merge

        given = self._given
        tasks, settings = (_by_name(given.get(name) or "default", f"{self.path}: {name}") for name in ("tasks", "settings"))
        seeds, algorithms, arguments = self._seeds(), self._algorithms(), self._arguments()
        # The first seed of everything comes first, so that a stopped study is useful
        for seed in seeds:
            for task, of_task in tasks.items():
                for algorithm in algorithms:
                    for setting, changes in settings.items():
                        options = self._options(merge(of_task, changes), algorithm, f"{self.path}: {task} {setting}")
                        env = options.pop("env", task)
                        yield Cell(task, env, algorithm, setting, int(seed), options, tuple(arguments))

    def _seeds(self) -> Sequence[int]:
        seeds = self._given.get("seeds", 1)
        if is_whole(seeds, 1):
            return range(seeds)
        if not isinstance(seeds, list) or not seeds or not all(is_whole(seed, 0) for seed in seeds):
            raise CommandError(f"{self.path}: seeds: found {seeds!r:.100}, expected how many, or a list of whole numbers >= 0")
        return list(dict.fromkeys(seeds))

    def _algorithms(self) -> list[str]:
        from rl_zoo3.utils import ALGOS

        given = self._given["algorithms"]
        algorithms = [given] if isinstance(given, str) else given
        if not isinstance(algorithms, list) or not algorithms or not all(name in ALGOS for name in algorithms):
            raise CommandError(f"{self.path}: algorithms: found {given!r:.100}, expected some of {', '.join(ALGOS)}")
        return list(dict.fromkeys(algorithms))

    def _arguments(self) -> list[str]:
        given = self._given.get("arguments") or []
        if not isinstance(given, list):
            raise CommandError(f"{self.path}: arguments: found {given!r:.100}, expected a list, such as [--eval-freq, 1000]")
        arguments = [str(one) for one in given]
        for name in (word.split("=")[0] for word in arguments):
            for option, wanted in _ELSEWHERE.items():
                # The parser takes beginnings of long options
                if name == option or (len(name) > 2 and name.startswith("--") and option.startswith(name)):
                    raise CommandError(f"{self.path}: arguments: found {name}, expected {wanted}")
        if "n_timesteps" in self._given:
            arguments += ["-n", str(self._given["n_timesteps"])]
        if "config" in self._given:
            config = self.path.parent / str(self._given["config"])
            if not config.is_file():
                raise CommandError(f"{self.path}: config: found no file {config}, expected a yaml of entries{near(config)}")
            arguments += ["--conf-file", str(config)]
        return arguments

    def _options(self, options: dict[str, Any], algorithm: str, origin: str) -> dict[str, Any]:
        from sb3_pgfd.zoo.hyperparameters import RESOLVERS, check_names

        if algorithm in ALGORITHMS:
            named = {name: value for name, value in options.items() if name != "env"}
            check_names(ALGORITHMS[algorithm], named, set(), origin)
        for name in RESOLVERS.keys() & options.keys():
            options[name] = RESOLVERS[name](options[name], [self.path.parent, Path.cwd()], origin)
        return options


def _read(path: Path) -> dict[str, Any]:
    """:return: The content of a study's file, whose numbers are checked"""
    # Here and below: the list of commands neither needs the RL Zoo nor waits for it
    import yaml

    from sb3_pgfd.zoo.hyperparameters import with_numbers

    if not path.is_file():
        raise CommandError(f"{path}: found no such file, expected the yaml of a study{near(path)}")
    try:
        given = with_numbers(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: found {' '.join(str(error).split())}, expected YAML") from error
    if not isinstance(given, dict) or not {"tasks", "algorithms"} <= given.keys():
        raise CommandError(f"{path}: found {given!r:.100}, expected a mapping with tasks and algorithms")
    try:
        check_keywords(str(path), given, _KEYS)
    except TypeError as error:
        raise CommandError(str(error)) from None
    # YAML reads 1e4 as a float
    given |= {name: int(value) for name, value in given.items() if isinstance(value, float) and value.is_integer()}
    for name, smallest in (("retries", 0), ("n_timesteps", 1)):
        if name in given and not is_whole(given[name], smallest):
            raise CommandError(f"{path}: {name}: found {given[name]!r}, expected a whole number >= {smallest}")
    for name in given.keys() & {"num_cpus", "num_gpus"}:
        if not is_number(given[name], 0.0):
            raise CommandError(f"{path}: {name}: found {given[name]!r}, expected a number >= 0")
    return given


def _by_name(given: Any, origin: str) -> dict[str, dict[str, Any]]:
    """:return: Options by name, of a name, a list of names, or a mapping"""
    if isinstance(given, str):
        given = [given]
    named = dict.fromkeys(given) if isinstance(given, list) else given
    if not isinstance(named, dict) or not all(isinstance(value, dict | None) for value in named.values()):
        raise CommandError(f"{origin}: found {given!r:.100}, expected names, or options by name")
    return {str(name): dict(value or {}) for name, value in named.items()}


def run_cell(cell: Cell, folder: Path) -> list[dict[str, Any]]:
    """
    Run what is left of a cell, in a process of its own.

    :param folder: Of the cell
    :return: Its evaluations. They are on disk too, and a cell that has them does not run again
    :raises CommandError: If the folder holds a run with other settings
    :raises RuntimeError: If it fails
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A worker of a study that was killed may take a moment to end
    with closing(hold(folder / ".lock", str(cell), wait=True)):
        _check_settings(cell, folder)
        # Here and not before: a worker of another study may have had the folder until now
        _write_settings(cell, folder)
        if not (folder / _RESULT).is_file():
            _train(cell, folder)
            (run,) = _runs(folder)
            rows = _rows(cell, run)
            with write_whole(folder / _RESULT) as temporary:
                temporary.write_text(json.dumps(rows), encoding="utf-8")
        return json.loads((folder / _RESULT).read_text(encoding="utf-8"))


def _train(cell: Cell, folder: Path) -> None:
    path = folder / _OUTPUT
    try:
        with path.open("a", encoding="utf-8", buffering=1) as output, redirect_stdout(output), redirect_stderr(output):
            run_in(str(folder), "train", _command(cell, folder))
    except RuntimeError as error:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else str(error)) from error


def _settings(cell: Cell) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(cell), default=repr))


def _check_settings(cell: Cell, folder: Path) -> None:
    """:raises CommandError: If the folder holds what a run with other settings has reached"""
    present = folder / _CELL
    if not present.is_file() or json.loads(present.read_text(encoding="utf-8")) == _settings(cell):
        return
    # What failed before its first state left nothing to go on with, and its settings may have been the reason
    if (folder / _RESULT).is_file() or any(sets(run / STATE) for run in _runs(folder)):
        raise CommandError(
            f"{folder}: found a run with other settings ({_CELL}), expected those of the grid: remove this folder to train it "
            "anew, or use another -f"
        )


def _write_settings(cell: Cell, folder: Path) -> None:
    with write_whole(folder / _CELL, overwrite=True) as temporary:
        temporary.write_text(json.dumps(_settings(cell), indent=1), encoding="utf-8")


def _runs(folder: Path) -> list[Path]:
    return [path.parents[1] for path in folder.glob("logs/*/*/*/command.json")]


def _command(cell: Cell, folder: Path) -> list[str]:
    """:return: Arguments of ``train`` that go on with what the cell has done, or begin"""
    for run in _runs(folder):
        if sets(run / STATE):
            return ["--no-progress", "--resume", str(run)]
    shutil.rmtree(folder / "logs", ignore_errors=True)
    return [*cell.command, "-f", "logs"]


def _rows(cell: Cell, run: Path) -> list[dict[str, Any]]:
    path = run / "evaluations.npz"
    if not path.is_file():
        raise RuntimeError(
            f"{run}: found no evaluations.npz, expected one: the study's arguments must have an --eval-freq > 0"
        )
    timesteps, returns, successes = read_evaluations(path)
    named = (cell.task, cell.env, cell.algorithm, cell.setting, cell.seed)
    solved = [None] * len(returns) if successes is None else successes.tolist()
    columns = zip(timesteps.astype(int).tolist(), returns.tolist(), solved, strict=True)
    return [dict(zip(STUDY_COLUMNS, (*named, *row), strict=True)) for row in columns]


def _write_results(grid: Grid, folder: Path) -> Path:
    """:return: The CSV with the rows of all finished cells, in the order of the grid"""
    path = folder / STUDY_RESULTS
    finished = [cell.folder(folder) / _RESULT for cell in grid.cells]
    rows = [row for one in finished if one.is_file() for row in json.loads(one.read_text(encoding="utf-8"))]
    with write_whole(path, overwrite=True) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, STUDY_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def run_study(grid: Grid, folder: Path, at_once: int | None, address: str | None) -> list[str]:
    """
    Run the cells that are not finished.

    :param folder: Of the study, on a file system that all nodes share
    :return: The cells that failed
    """
    from sb3_pgfd.distributed import Job, run_jobs

    todo = {str(cell): cell for cell in grid.cells if not (cell.folder(folder) / _RESULT).is_file()}
    for cell in grid.cells:
        if (cell.folder(folder) / _CELL).is_file():
            _check_settings(cell, cell.folder(folder))
    print(f"{len(grid.cells)} cells, {len(todo)} to run", flush=True)
    jobs = [Job(name, run_cell, (cell, cell.folder(folder))) for name, cell in todo.items()]
    failed: list[str] = []
    for number, outcome in enumerate(run_jobs(jobs, at_once, grid.retries, address, **grid.resources), start=1):
        name = outcome.job.name
        said = f"FAILED, {outcome.reason}, see {todo[name].folder(folder) / _OUTPUT}"
        if outcome.error is None:
            said = f"return {outcome.value[-1]['return']:.4g}"
            _write_results(grid, folder)
        else:
            failed.append(name)
        print(f"[{number}/{len(todo)}] {name}: {said}", flush=True)
    return failed


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Commands of ``sb3-pgfd``"""
    text = "train on a grid of tasks, algorithms, settings and seeds, on one machine or many, with Ray"
    parser = subparsers.add_parser("study", help=text, description=f"{text}. The same command goes on with a study.")
    parser.add_argument("grid", type=Path, metavar="GRID.yml", help="the grid, see docs/distributed.md")
    parser.add_argument("-f", "--folder", type=Path, help="of the study (default: studies/<name of the grid>)")
    parser.add_argument("--at-once", type=int, metavar="N", help="cells at a time (default: as many as there are CPUs)")
    parser.add_argument("--address", help="of Ray's cluster (default: RAY_ADDRESS, or this machine)")
    parser.add_argument("--list", action="store_true", help="say which cells are finished, and run nothing")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    register()
    register_environments()
    find_in_current_folder()
    grid = Grid(args.grid)
    folder = (args.folder or Path("studies", args.grid.stem)).resolve()
    if args.list:
        for cell in grid.cells:
            print(f"{'finished' if (cell.folder(folder) / _RESULT).is_file() else 'missing'}: {cell}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    # Ending the study ends its cells, which save their states
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with closing(hold(folder / ".lock", str(folder))):
        try:
            failed = run_study(grid, folder, args.at_once, args.address)
        except KeyboardInterrupt:
            raise CommandError("the study was interrupted; the same command goes on with it") from None
        results = _write_results(grid, folder)
    print(f"{len(grid.cells) - len(failed)} finished, {len(failed)} failed\nnumbers: {results}")
    if failed:
        raise CommandError(f"{len(failed)} of {len(grid.cells)} cells failed: {'; '.join(failed)}")
