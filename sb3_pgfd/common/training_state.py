"""
The whole state of learning on disk: a model that is resumed goes on as if it had not been interrupted.

A training state is a folder of sets. Each set is a folder ``step_<n>`` with one file per part and a manifest with their
checksums. A set is written under another name and renamed when it is on disk, so a set is whole or not there.

What is saved is found by walking over the attributes of the model: networks, optimisers and parameters go into the networks of
the new model, everything else is pickled. A new attribute needs no entry here.
"""

import io
import json
import pickle
import platform
import shutil
import zlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cloudpickle
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from torch import nn

from sb3_pgfd.common.environment_state import PICKLE_ERRORS, layers
from sb3_pgfd.utils.files import near, write_whole
from sb3_pgfd.utils.warning import warn_user

FORMAT = 1
MANIFEST = "manifest.json"
_LIBRARIES = ("sb3-pgfd", "stable-baselines3", "torch", "numpy", "gymnasium")
# Of the process, not of the run
_LEFT = {"env", "_vec_normalize_env", "_logger", "observation_space", "action_space", "device"}
_LEFT |= {"_signals", "_callback", "_watchers", "_resumed", "_is_between", "_policy_copy", "_collector"}
_ATOMS = (bool, int, float, complex, str, bytes, type(None), type)
# Of torch's own, which no state_dict has: they are made anew with the network
_OF_MODULES = set(vars(nn.Module()))


class TrainingStateError(Exception):
    """A training state cannot be read or written. The message names what was found and what was expected."""


def structure(model: BaseAlgorithm) -> dict[str, Any]:
    """:return: Networks, optimisers and learned parameters of a model by their place, without networks inside another"""
    found: dict[str, Any] = {}
    inside: set[int] = set()
    # Most networks of a model are parts of its policy
    for name, value in sorted(vars(model).items(), key=lambda item: item[0] != "policy"):
        if isinstance(value, nn.Module) and id(value) not in inside:
            found[name] = value
            for place, module in value.named_modules(prefix=name):
                inside.add(id(module))
                for inner, item in vars(module).items():
                    if isinstance(item, th.optim.Optimizer):
                        found[f"{place}.{inner}"] = item
        elif isinstance(value, th.optim.Optimizer) or (isinstance(value, th.Tensor) and value.requires_grad and value.is_leaf):
            found[name] = value
    return found


def _references(model: BaseAlgorithm) -> Iterator[tuple[Any, tuple[str, str]]]:
    """:return: Objects that a new model has too, and where"""
    yield model, ("model", "")
    if model.env is not None:
        for depth, layer in enumerate(layers(model.env)):
            yield layer, ("env", str(depth))
    yield model.observation_space, ("attribute", "observation_space")
    yield model.action_space, ("attribute", "action_space")
    for place, value in structure(model).items():
        yield value, ("structure", place)
        if isinstance(value, nn.Module):
            for kind in (value.named_modules, value.named_parameters, value.named_buffers):
                for inner, item in kind():
                    if inner:
                        yield item, ("inside", f"{place}:{inner}")


class _Pickler(cloudpickle.Pickler):
    """Pickles an attribute of a model; what a new model has too is pickled as its place."""

    def __init__(self, file: Any, name: str, known: dict[int, tuple[str, str]], attributes: dict[int, str]):
        super().__init__(file, protocol=5)
        self._name, self._known, self._attributes = name, known, attributes
        self.needs_networks = False

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        place = self._known.get(id(obj))
        if place is not None:
            self.needs_networks |= place[0] in ("structure", "inside")
            return place
        if isinstance(obj, Logger):
            return "logger", ""
        name = self._attributes.get(id(obj), self._name)
        return None if name == self._name else ("attribute", name)


class _Loader:
    """
    Loads the attributes of a model, those first that others refer to.

    :param pickled: By name
    """

    def __init__(self, pickled: dict[str, bytes]):
        self._pickled = pickled
        self._loaded: dict[str, Any] = {}
        self.model: Any = None
        """A new model, which references lead to"""

    def load(self, name: str) -> Any:
        """:return: The value of an attribute, the same object each time"""
        if name not in self._loaded:
            self._loaded[name] = _Unpickler(io.BytesIO(self._pickled[name]), self).load()
        return self._loaded[name]

    def load_file(self, path: Path) -> Any:
        """:return: What is in a file of its own; None if it is empty"""
        if path.stat().st_size == 0:
            return None
        with path.open("rb") as file:
            return _Unpickler(file, self).load()

    def find(self, kind: str, place: str) -> Any:
        """:return: What a reference leads to"""
        if kind == "attribute":
            return self.load(place) if place in self._pickled else getattr(self.model, place)
        if kind == "env":
            return list(layers(self.model.env))[int(place)]
        if kind == "structure":
            return structure(self.model)[place]
        if kind == "inside":
            outer, inner = place.split(":")
            module = structure(self.model)[outer]
            return {**dict(module.named_modules()), **dict(module.named_parameters()), **dict(module.named_buffers())}[inner]
        return self.model if kind == "model" else self.model.logger


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, loader: _Loader):
        super().__init__(file)
        self._loader = loader

    def persistent_load(self, pid: tuple[str, str]) -> Any:
        return self._loader.find(*pid)


class _Part:
    """A file of a set: counts and sums up what is written to it, or checks it."""

    def __init__(self, path: Path):
        self._file, self.n_bytes, self.crc32 = path.open("wb"), 0, 0

    def write(self, data: Any) -> int:
        self.crc32 = zlib.crc32(data, self.crc32)
        written = self._file.write(data)
        self.n_bytes += written
        return written

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _write_attributes(model: BaseAlgorithm, folder: Path) -> dict[str, _Part]:
    """:return: The parts ``model`` and ``replay_buffer``: each attribute with whether it needs the networks"""
    parts = {name: _Part(folder / f"{name}.pkl") for name in ("model", "replay_buffer")}
    known = {id(value): place for value, place in _references(model)}
    left = _LEFT | {place for place in structure(model) if "." not in place}
    attributes = {id(value): name for name, value in vars(model).items() if not isinstance(value, _ATOMS)}
    left |= {name for name, value in vars(model).items() if id(value) in known}
    for name, value in vars(model).items():
        if name in left or (name == "replay_buffer" and value is None):
            continue
        part = parts["replay_buffer" if name == "replay_buffer" else "model"]
        try:
            if name == "replay_buffer":
                # Into the file at once: a copy in memory would be as large as the buffer
                _Pickler(part, name, known, attributes).dump(value)
            else:
                data, needs_networks = _pickled(name, value, known, attributes)
                pickle.dump((name, needs_networks, data), part, protocol=5)
        except PICKLE_ERRORS as error:
            # Also not saved with the model: it is made anew
            if name not in model._excluded_save_params():
                raise TrainingStateError(
                    f"{type(model).__name__}.{name}: found {type(value).__name__}, which cannot be pickled ({error}), "
                    "expected something that can be: without it the run could not go on"
                ) from error
    return parts


def _pickled(name: str, value: Any, known: dict[int, Any], attributes: dict[int, str]) -> tuple[bytes, bool]:
    file = io.BytesIO()
    pickler = _Pickler(file, name, known, attributes)
    pickler.dump(value)
    return file.getvalue(), pickler.needs_networks


def _networks(model: BaseAlgorithm) -> dict[str, Any]:
    saved = {}
    for place, value in structure(model).items():
        saved[place] = value.detach() if isinstance(value, th.Tensor) else value.state_dict()
        if isinstance(value, nn.Module):
            # Numbers and switches beside the parameters, as of the training mode
            saved[f"{place}:values"] = {
                inner: {
                    name: item
                    for name, item in vars(module).items()
                    if isinstance(item, (bool, int, float)) and (name == "training" or name not in _OF_MODULES)
                }
                for inner, module in value.named_modules()
            }
    return saved


def _set_networks(model: BaseAlgorithm, saved: dict[str, Any]) -> None:
    present = structure(model)
    expected = {place for place in saved if ":" not in place}
    if present.keys() != expected:
        different = sorted(present.keys() ^ expected)
        raise TrainingStateError(f"networks: found {', '.join(different)} in the model or in the set alone, expected both")
    for place, value in present.items():
        if isinstance(value, th.Tensor):
            with th.no_grad():
                value.copy_(saved[place])
        else:
            value.load_state_dict(saved[place])
        if isinstance(value, nn.Module):
            modules = dict(value.named_modules())
            for inner, values in saved[f"{place}:values"].items():
                modules[inner].__dict__.update(values)


def write_set(model: BaseAlgorithm, folder: Path, run: dict[str, Any], notes: dict[str, Any], keep: int = 2) -> Path:
    """
    Write a set. Then remove old ones.

    :param model: Between two steps
    :param folder: Of the training state
    :param run: What the run has beyond the model: environments, callbacks, random generators
    :param notes: For the manifest
    :param keep: Sets to keep besides the one with the highest ``score`` in its notes
    :return: Folder of the set
    :raises OSError: If it cannot be written; the sets that are there stay
    :raises TrainingStateError: If something cannot be pickled
    """
    path, present = _free_path(folder, f"step_{model.num_timesteps}"), sets(folder)
    with write_whole(path, folder=True) as temporary:
        parts = _write_attributes(model, temporary)
        parts |= {name: _Part(temporary / f"{name}.pkl") for name in ("networks", "run")}
        th.save(_networks(model), parts["networks"])  # type: ignore[arg-type]
        cloudpickle.dump(run, parts["run"], protocol=5)
        for part in parts.values():
            part.close()
        manifest = {
            "format": FORMAT,
            "number": 1 + max((_number(one) for one in present), default=0),
            "algorithm": type(model).__name__,
            "num_timesteps": model.num_timesteps,
            "versions": _versions(),
            "parts": {name: {"bytes": part.n_bytes, "crc32": part.crc32} for name, part in parts.items()},
            **notes,
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    _remove_old(folder, keep)
    return path


def _free_path(folder: Path, name: str) -> Path:
    number, path = 1, folder / name
    while path.exists():
        number += 1
        path = folder / f"{name}_{number}"
    return path


def sets(folder: Path) -> list[Path]:
    """:return: The sets of a training state, the newest first and those without a manifest last"""
    return sorted((path for path in folder.glob("step_*") if path.is_dir()), key=_number, reverse=True)


def _number(path: Path) -> int:
    try:
        return int(read_manifest(path)["number"])
    except TrainingStateError:
        return 0


def _score(path: Path) -> float:
    score = read_manifest(path).get("score") if _number(path) else None
    return -float("inf") if score is None else float(score)


def _remove_old(folder: Path, keep: int) -> None:
    present = sets(folder)
    best = max(present, key=_score)
    for path in present[keep:]:
        if path != best or _score(path) == -float("inf"):
            # Under the name of a temporary file: one that is half removed is no set
            left = path.with_name(f".{path.name}-old.tmp")
            path.rename(left)
            shutil.rmtree(left)


def read_manifest(path: Path) -> dict[str, Any]:
    """:raises TrainingStateError: If it is damaged"""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingStateError(f"{path / MANIFEST}: found no manifest ({error}), expected one") from error
    if manifest.get("format") != FORMAT:
        found = f"found a training state of format {manifest.get('format')!r}, expected {FORMAT}"
        raise TrainingStateError(f"{path}: {found}: it was saved by another version of sb3-pgfd")
    return manifest


def verify(path: Path) -> dict[str, Any]:
    """
    :param path: Of a set
    :return: Its manifest
    :raises TrainingStateError: If a part is missing or damaged
    """
    manifest = read_manifest(path)
    problems = []
    for part, expected in manifest["parts"].items():
        file = path / f"{part}.pkl"
        if not file.is_file():
            problems.append(f"{file.name} is missing")
        elif file.stat().st_size != expected["bytes"]:
            problems.append(f"{file.name} has {file.stat().st_size} of {expected['bytes']} bytes")
        elif _crc32(file) != expected["crc32"]:
            problems.append(f"{file.name} has another checksum")
    if problems:
        raise TrainingStateError(f"{path}: found a damaged set ({', '.join(problems)}), expected all of it")
    return manifest


def _crc32(path: Path) -> int:
    crc32 = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc32 = zlib.crc32(chunk, crc32)
    return crc32


def newest_set(folder: Path) -> Path:
    """
    :param folder: Of the training state, or a set
    :return: The newest set that verifies. A warning names those that do not
    :raises TrainingStateError: If there is none
    """
    candidates = [folder] if (folder / MANIFEST).is_file() else sets(folder)
    damaged = []
    for path in candidates:
        try:
            verify(path)
        except TrainingStateError as error:
            damaged.append(str(error))
            continue
        if damaged:
            warn_user(f"{'; '.join(damaged)}. Going on from {path.name} instead")
        return path
    missing = "no state" if folder.is_dir() else f"no such folder{near(folder)}"
    found = "; ".join(damaged) or missing
    raise TrainingStateError(f"{folder}: found {found}, expected a training state: folders step_<n> with a {MANIFEST}")


def read_model(cls: type[BaseAlgorithm], path: Path, env: Any, device: Any) -> tuple[Any, dict[str, Any]]:
    """
    :param cls: Of the model
    :param path: A set that verifies
    :param env: A new environment, like that of the run
    :param device: Of PyTorch
    :return: The model, and what :func:`write_set` was given of the run
    :raises TrainingStateError: If the set is of another algorithm
    """
    manifest = read_manifest(path)
    if manifest["algorithm"] != cls.__name__:
        raise TrainingStateError(f"{path}: found a state of {manifest['algorithm']}, expected one of {cls.__name__}")
    different = {name: (old, new) for name, old in manifest["versions"].items() if old != (new := _versions().get(name))}
    if different:
        changes = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in different.items())
        warn_user(f"{path}: found a state of other versions ({changes}): the run may not go on bit for bit")
    with (path / "model.pkl").open("rb") as file:
        entries = _entries(file)
    with_networks = {name for name, needs_networks, _ in entries if needs_networks}
    loader = _Loader({name: data for name, _, data in entries})
    loader.model = model = cls(loader.load("policy_class"), env, device=device, _init_setup_model=False)  # type: ignore[call-arg]
    values = {name: loader.load(name) for name, _, _ in entries if name not in with_networks}
    vars(model).update(values)
    buffer = loader.load_file(path / "replay_buffer.pkl")
    if buffer is not None:
        values["replay_buffer"] = buffer
        vars(model).update(values)
    model._setup_model()
    with (path / "networks.pkl").open("rb") as file:
        _set_networks(model, th.load(file, map_location=model.device, weights_only=False))
    # Once more, because the set-up begins a new run
    vars(model).update(values)
    vars(model).update({name: loader.load(name) for name in with_networks})
    with (path / "run.pkl").open("rb") as file:
        return model, pickle.load(file)


def _entries(file: Any) -> list[tuple[str, bool, bytes]]:
    entries = []
    while True:
        try:
            entries.append(pickle.load(file))
        except EOFError:
            return entries


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
