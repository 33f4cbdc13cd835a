"""The updates of one call of ``train()``: one by one, each compiled, or all of them as one CUDA graph."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch as th

from sb3_pgfd.common.compilation import CompiledFunctions, Function, Tensors, UpdateState, traced_when_called
from sb3_pgfd.common.optimization import without_denormals
from sb3_pgfd.replay import DemoBatch

ERRORS = "errors"
"""Key of an update's result that holds e_i, the part of the priorities that the critic gives, a column"""
# Of the tensors in the staging memory, in bytes: GPU kernels want their inputs aligned
_ALIGNMENT = 256


class Turn(NamedTuple):
    """What changes from one update to the next."""

    with_actor: bool
    """Whether the actor is updated too"""
    mean_rate: float | th.Tensor
    """Rate of the running mean of the actors"""


Update = Callable[[DemoBatch, th.Tensor, Turn], dict[str, th.Tensor]]


class Results(NamedTuple):
    """Of the updates of one call."""

    errors: th.Tensor
    """e_i of all batches, one behind the other, shape ``(n_batches * B,)``, on the device; valid until the next call"""
    metrics: list[dict[str, th.Tensor]]
    """What to log the means of, of each update"""


class Updates:
    """
    Runs updates on batches that were drawn together.

    :param update: One update of the networks, given a batch, ``clones_only`` and its turn
    :param device: Where it runs
    :param compiled: What it changes, if it is to be compiled
    """

    def __init__(self, update: Update, device: th.device, compiled: UpdateState | None):
        self._update = update
        self._device = device
        self._compiled = None if compiled is None else CompiledFunctions(compiled, device)
        self._staging: dict[Any, _Staging] = {}
        self._host_errors: th.Tensor | None = None
        # Of the metrics, by program, without and with an update of the actor
        self._names: dict[Any, dict[bool, list[str]]] = {}

    def __reduce__(self) -> str:
        raise TypeError("compiled updates are of their process: they are made anew")

    @without_denormals()
    def __call__(self, batch: DemoBatch, turns: Sequence[Turn], clones_only: bool, options: tuple[Any, ...]) -> Results:
        """
        :param batch: As many batches as turns, in the CPU's memory
        :param turns: One for each
        :param clones_only: Whether the actor clones and does not follow Q
        :param options: What else the update reads: with other values it is compiled anew
        """
        if self._compiled is None:
            clones = th.tensor(clones_only, device=self._device)
            parts = batch.to(self._device).split(len(turns))
            metrics = [self._update(part, clones, turn) for part, turn in zip(parts, turns, strict=True)]
            return Results(_joined([found.pop(ERRORS).flatten() for found in metrics]), metrics)
        rates = th.tensor([float(turn.mean_rate) for turn in turns])
        tensors, clones = [*tensors_of(batch), rates], th.tensor(clones_only)
        pattern = tuple(turn.with_actor for turn in turns)
        if self._device.type == "cuda":
            blocks = [(pattern, self._staged([*tensors, clones]))]
        else:
            blocks = [((turn,), [*part, clones]) for turn, part in zip(pattern, _split(tensors, len(turns)), strict=True)]
        all_errors: Tensors = []
        metrics = []
        for block, inputs in blocks:
            key = block, tuple(tensor.shape for tensor in inputs), options
            names = self._names.setdefault(key, {})
            errors, means = self._compiled(key, partial(self._function, batch, block, names), inputs)
            all_errors.append(errors)
            # A CUDA graph writes its next results to the same places
            rest = iter(means.clone().unbind())
            metrics += [{name: next(rest) for name in names[with_actor]} for with_actor in block]
        return Results(_joined(all_errors), metrics)

    def to_host(self, errors: th.Tensor) -> th.Tensor:
        """:return: Errors in the CPU's memory, valid until the next call. From a GPU they come through pinned memory"""
        if self._device.type != "cuda":
            return errors
        if self._host_errors is None or self._host_errors.shape != errors.shape:
            self._host_errors = th.empty(errors.shape, dtype=errors.dtype, pin_memory=True)
        self._host_errors.copy_(errors, non_blocking=True)
        th.cuda.current_stream(self._device).synchronize()
        return self._host_errors

    def _function(self, like: DemoBatch, pattern: tuple[bool, ...], names: dict[bool, list[str]], fused: bool) -> Function:
        """
        :param like: A batch with the same columns
        :param pattern: Which of the updates have the actor in them
        :param names: Takes those of the metrics
        :param fused: Whether to compile each update
        :return: The updates as a function of tensors alone. It returns all errors and the means of all metrics
        """

        def one(with_actor: bool) -> Function:
            def function(tensors: Tensors) -> Tensors:
                *columns, rate, clones = tensors
                found = self._update(with_tensors(like, iter(columns)), clones, Turn(with_actor, rate[0]))
                errors = found.pop(ERRORS)
                names[with_actor] = list(found)
                return [errors.flatten(), _means(found)]

            return traced_when_called(function) if fused else function

        if len(pattern) == 1 and self._device.type == "cpu":
            return one(pattern[0])
        programs = {with_actor: one(with_actor) for with_actor in set(pattern)}

        def block(tensors: Tensors) -> Tensors:
            *columns, clones = tensors
            results = []
            for with_actor, part in zip(pattern, _split(columns, len(pattern)), strict=True):
                results.append(programs[with_actor]([*part, clones]))
            errors, means = zip(*results, strict=True)
            return [th.cat(errors), th.cat(means)]

        return block

    def _staged(self, tensors: Tensors) -> Tensors:
        key = tuple((tensor.shape, tensor.dtype, tensor.is_cuda) for tensor in tensors)
        if key not in self._staging:
            self._staging[key] = _Staging(tensors, self._device)
        return self._staging[key].load(tensors)


class SingleUpdates:
    """
    Runs updates of one batch each.

    :param device: Where they run
    :param compiled: What they change, if they are to be compiled
    """

    def __init__(self, device: th.device, compiled: UpdateState | None):
        self._compiled = None if compiled is None else CompiledFunctions(compiled, device)
        self._names: dict[Any, list[str]] = {}

    def __reduce__(self) -> str:
        raise TypeError("compiled updates are of their process: they are made anew")

    @without_denormals()
    def __call__(
        self, update: Callable[..., dict[str, th.Tensor]], batch: tuple[Any, ...], options: Any
    ) -> dict[str, th.Tensor]:
        """
        :param update: Of the networks, named by ``__name__``. It returns what to log the means of
        :param batch: Its arguments: tensors, tuples and dicts of them, or None
        :param options: What else the update reads: with other values it is compiled anew
        :return: What the update returns, or the means of it
        """
        if self._compiled is None:
            return update(*batch)
        inputs = tensors_of(batch)
        key = update.__name__, options, tuple(tensor.shape for tensor in inputs)

        def function(tensors: Tensors) -> Tensors:
            with _unchecked_distributions():
                found = update(*with_tensors(batch, iter(tensors)))
            self._names[key] = list(found)
            return [_means(found)]

        (means,) = self._compiled(key, lambda fused: traced_when_called(function) if fused else function, inputs)
        # A CUDA graph writes its next results to the same places
        return dict(zip(self._names[key], means.clone().unbind(), strict=True))


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """The checks of distributions branch on values. Actions that are drawn for the environment are checked all the same."""
    distribution = th.distributions.Distribution
    present = distribution._validate_args
    distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        distribution.set_default_validate_args(present)


class _Staging:
    """
    Takes tensors to a GPU in one copy from pinned memory, always to the same place.

    :param like: Tensors of the shapes to come
    :param device: The GPU
    """

    def __init__(self, like: Tensors, device: th.device):
        ends = [0]
        # Observations that are stored on the GPU need no copy from the host
        for tensor in like:
            if tensor.is_cuda:
                continue
            ends.append(-(-(ends[-1] + tensor.nbytes) // _ALIGNMENT) * _ALIGNMENT)
        self._host = th.empty(ends[-1], dtype=th.uint8, pin_memory=True)
        self._there = th.empty(ends[-1], dtype=th.uint8, device=device)
        on_host = [tensor for tensor in like if not tensor.is_cuda]
        self._host_views, copied = (
            [
                memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
                for tensor, start in zip(on_host, ends, strict=False)
            ]
            for memory in (self._host, self._there)
        )
        places = iter(copied)
        self._views = [th.empty_like(tensor) if tensor.is_cuda else next(places) for tensor in like]
        self._copied = th.cuda.Event()

    def load(self, tensors: Tensors) -> Tensors:
        """:return: Copies on the GPU, valid until the next call"""
        self._copied.synchronize()
        for view, tensor in zip(self._host_views, (one for one in tensors if not one.is_cuda), strict=True):
            view.copy_(tensor)
        for view, tensor in zip(self._views, tensors, strict=True):
            if tensor.is_cuda:
                view.copy_(tensor)
        self._there.copy_(self._host, non_blocking=True)
        self._copied.record()
        return self._views


def tensors_of(tree: Any) -> Tensors:
    """:return: The tensors in tuples and dicts, whatever else is in them"""
    if isinstance(tree, th.Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple) else ()
    return [tensor for part in parts for tensor in tensors_of(part)]


def with_tensors(like: Any, tensors: Iterator[th.Tensor]) -> Any:
    """:return: The reverse of :func:`tensors_of`: the same with other tensors"""
    if isinstance(like, th.Tensor):
        return next(tensors)
    if isinstance(like, dict):
        return {key: with_tensors(part, tensors) for key, part in like.items()}
    if isinstance(like, tuple):
        parts = [with_tensors(part, tensors) for part in like]
        return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
    return like


def _means(metrics: dict[str, th.Tensor]) -> th.Tensor:
    return th.stack([value.float().mean() for value in metrics.values()])


def _joined(parts: Tensors) -> th.Tensor:
    return parts[0] if len(parts) == 1 else th.cat(parts)


def _split(tensors: Tensors, n_parts: int) -> list[Tensors]:
    if n_parts == 1:
        return [tensors]
    return [list(part) for part in zip(*(tensor.unflatten(0, (n_parts, -1)).unbind() for tensor in tensors), strict=True)]
