"""
Updates as functions of tensors, compiled: on a CPU one update as one program (``torch.compile``), on a GPU all updates of a
call of ``train()`` as one CUDA graph.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch as th
from torch.fx.experimental.proxy_tensor import make_fx

from sb3_pgfd.common.optimization import as_formulas, can_be_compiled, optimizer_tensors
from sb3_pgfd.utils.warning import warn_user

# Largest difference to the eager update, as a share of how far that moves one tensor, and all of them. Adam's first steps
# go by the sign of a gradient, which for gradients near zero is a matter of rounding
_TOLERANCE = (0.05, 0.02)

Tensors = list[th.Tensor]
Function = Callable[[Tensors], Tensors]


class UpdateState(NamedTuple):
    """Everything that an update changes in place."""

    modules: Sequence[th.nn.Module]
    optimizers: Sequence[th.optim.Optimizer]
    parameters: Sequence[th.Tensor] = ()
    """Those that are in no module"""

    def tensors(self) -> tuple[Tensors, Tensors]:
        """:return: Parameters and statistics of layers, and what the optimisers remember"""
        of_modules = [tensor.data for module in self.modules for tensor in module.state_dict(keep_vars=True).values()]
        of_modules += [parameter.data for parameter in self.parameters]
        return of_modules, [tensor for optimizer in self.optimizers for tensor in optimizer_tensors(optimizer)]

    def key(self) -> tuple[int, ...]:
        """:return: Another one when ``load_state_dict()`` or ``to()`` has put other tensors in the place of some"""
        found: list[int] = []
        for optimizer in self.optimizers:
            # Not every parameter has a memory: a held actor has none
            memory: dict[str, Any] = next(iter(optimizer.state.values()), {})
            found += id(optimizer.param_groups[0]["params"][0]), id(next(iter(memory.values()), None))
        return tuple(found)


class CompiledFunctions:
    """
    Compiles functions that change networks in place, one for each key, when they are called for the second time: the first
    call is an eager one, in which the optimisers make their memory. A compiled function is compared with the eager one on
    the data of that call. Where it cannot be compiled, or its result differs, a warning says why and all calls stay eager.

    :param state: What the functions change
    :param device: Where they run
    """

    def __init__(self, state: UpdateState, device: th.device):
        self._state = state
        self._device = device
        self._functions: dict[Any, Function | None] = {}
        self._is_given_up = False

    def __call__(self, key: Any, make: Callable[[bool], Function], inputs: Tensors) -> Tensors:
        """
        :param key: Names the function, with all that it reads but the inputs and the networks
        :param make: Gives the function; with True one whose parts are compiled, for a CUDA graph of fewer kernels. Its
            results are valid until the next call
        :param inputs: Tensors of the same shapes for the same key
        """
        if self._is_given_up:
            return make(False)(inputs)
        key = (key, self._state.key())
        if key not in self._functions:
            # A key without memory of the optimisers never comes back
            self._functions[key] = None
            return self._eagerly(make(False), inputs)
        compiled = self._functions[key]
        return self._first_call(key, make, inputs) if compiled is None else compiled(inputs)

    def _eagerly(self, function: Function, inputs: Tensors) -> Tensors:
        unsupported = [name for optimizer in self._state.optimizers if (name := can_be_compiled(optimizer, self._device))]
        if unsupported:
            self._give_up(unsupported[0])
        return function(inputs)

    def _give_up(self, why: str) -> None:
        self._is_given_up = True
        self._functions.clear()
        warn_user(
            f"compile=True: the update cannot be compiled here ({why}). Learning goes on without, which is slower and "
            "otherwise the same",
        )

    def _first_call(self, key: Any, make: Callable[[bool], Function], inputs: Tensors) -> Tensors:
        function = make(False)
        on_gpu = self._device.type == "cuda"
        # Without a compiler, a CUDA graph of the plain function is left
        ways = [partial(captured, make(True)), partial(captured, function)] if on_gpu else [partial(traced, function)]
        why = ""
        for way in ways:
            try:
                results, self._functions[key] = self._compiled_and_compared(way, function, inputs)
                return results
            # A compiler may fail in any way, and the run must go on
            except Exception as error:  # noqa: BLE001
                why = why or f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        self._give_up(why)
        return function(inputs)

    def _compiled_and_compared(
        self, way: Callable[[Tensors], Function], function: Function, inputs: Tensors
    ) -> tuple[Tensors, Function]:
        """
        :return: Results of the eager function, which has been made, and a compiled one
        :raises Exception: If it cannot be compiled or the two differ; the networks are as they were before then
        """
        kinds = self._state.tensors()
        state = [*kinds[0], *kinds[1]]
        before = [tensor.clone() for tensor in state]
        random = _random_state(self._device)

        def restore() -> None:
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
            _set_random_state(self._device, random)

        try:
            compiled = way(inputs)
            restore()
            compiled(inputs)
            found = [tensor.clone() for tensor in state]
            restore()
            results = function(inputs)
            n_of_modules = len(kinds[0])
            _compare(before[:n_of_modules], found[:n_of_modules], state[:n_of_modules])
            _compare(before[n_of_modules:], found[n_of_modules:], state[n_of_modules:])
        except BaseException:
            _leave_capture(self._device)
            restore()
            raise
        return results, compiled


def _compare(before: Tensors, found: Tensors, expected: Tensors) -> None:
    """:raises ValueError: If the compiled update has moved tensors to other places than the eager one"""
    moves = [_distance(one, other) for one, other in zip(before, expected, strict=True)]
    errors = [_distance(one, other) for one, other in zip(found, expected, strict=True)]
    of_one, of_all = _TOLERANCE
    allowed = of_all * sum(move**2 for move in moves) ** 0.5
    for move, error in zip(moves, errors, strict=True):
        if not error <= of_one * move + allowed:
            raise ValueError(f"its result differs by {error:.2g} from that of the eager update, which moves by {move:.2g}")


def _distance(one: th.Tensor, other: th.Tensor) -> float:
    return float((one.double() - other.double()).norm())


def _random_state(device: th.device) -> list[th.Tensor]:
    return [th.get_rng_state(), *([th.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_state(device: th.device, states: list[th.Tensor]) -> None:
    th.set_rng_state(states[0])
    if device.type == "cuda":
        th.cuda.set_rng_state(states[1], device)


def _leave_capture(device: th.device) -> None:
    """A capture that failed leaves the GPU's random generator as if it went on: the next eager draw would fail."""
    if device.type == "cuda":
        generator = th.cuda.default_generators[th.cuda.current_device() if device.index is None else device.index]
        generator.graphsafe_set_state(th.Generator(generator.device).graphsafe_get_state())


def traced(function: Function, inputs: Tensors) -> Function:
    """:return: The function as one program. Gradients and the optimisers' formulas are part of it"""
    with as_formulas():
        graph = make_fx(lambda *tensors: function(list(tensors)))(*inputs)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    # Random numbers in the same order as without compilation
    options: dict[str, Any] = {"fallback_random": True, "cpp_wrapper": inputs[0].device.type == "cpu"}
    compiled = th.compile(graph, fullgraph=True, dynamic=False, options=options)

    def run(given: Tensors) -> Tensors:
        with th.no_grad():
            return list(compiled(*given))

    return run


def traced_when_called(function: Function) -> Function:
    """:return: The same, as one program from its first call on"""
    programs: list[Function] = []

    def run(inputs: Tensors) -> Tensors:
        if not programs:
            programs.append(traced(function, inputs))
        return programs[0](inputs)

    return run


def captured(function: Function, inputs: Tensors) -> Function:
    """:return: The function as a CUDA graph that reads the inputs from where they are now and writes to the same results"""
    stream = th.cuda.Stream()
    stream.wait_stream(th.cuda.current_stream())
    with th.cuda.stream(stream):
        function(inputs)
    th.cuda.current_stream().wait_stream(stream)
    graph = th.cuda.CUDAGraph()
    with th.cuda.graph(graph):
        results = function(inputs)

    def run(given: Tensors) -> Tensors:
        for place, value in zip(inputs, given, strict=True):
            if place is not value:
                place.copy_(value, non_blocking=True)
        graph.replay()
        return results

    return run
