import os
import pickle
import subprocess
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.validation import Observations

PROTOCOLS = (2, 3, 4, 5)


def transition(step: int, done: Any = False, action: Any = 0.5) -> tuple[Any, ...]:
    state = np.array([step, -step], dtype=np.float32)
    return state, np.array([action], dtype=np.float32), float(step), state + np.array([1, -1], np.float32), done


# An episode of two steps and one of three
ROWS = [transition(step, done=step in (1, 4)) for step in range(5)]


def with_columns(*functions: Callable[[Any], Any] | None) -> list[tuple[Any, ...]]:
    """ROWS with each of (s, a, r, s', done) passed through its function."""
    rows = [[function(v) if function else v for v, function in zip(row, functions, strict=True)] for row in ROWS]
    return [tuple(row) for row in rows]


def dump(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def load(path: Path, done_means: Any = "truncated", **options: Any) -> Demonstrations:
    return Demonstrations.load(path, done_means=done_means, **options)


def box(observations: Observations) -> np.ndarray:
    assert isinstance(observations, np.ndarray)
    return observations


def check_rows(demonstrations: Demonstrations) -> None:
    assert box(demonstrations.observations).tolist() == [[0, 0], [1, -1], [2, -2], [3, -3], [4, -4]]
    assert box(demonstrations.next_observations).tolist() == [[1, -1], [2, -2], [3, -3], [4, -4], [5, -5]]
    assert demonstrations.actions.tolist() == [[0.5]] * 5
    assert demonstrations.rewards.tolist() == [0, 1, 2, 3, 4]
    assert demonstrations.episode_lengths.tolist() == [2, 3]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_arrays_are_read(protocol: int, tmp_path: Path):
    path = dump(tmp_path / "a.pkl", ROWS, protocol)
    demonstrations = load(path)
    check_rows(demonstrations)
    assert box(demonstrations.observations).dtype == demonstrations.actions.dtype == np.float32
    assert demonstrations.source == str(path)
    assert demonstrations.metadata["producer"] == "imported from pickled tuples"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "rows",
    [
        # NumPy scalars; Python's own numbers and lists; arrays of one; numbers in place of vectors of one
        with_columns(None, None, np.float64, None, np.bool_),
        with_columns(np.ndarray.tolist, np.ndarray.tolist, float, np.ndarray.tolist, int),
        with_columns(None, None, lambda r: np.array([r]), None, lambda done: np.array([done])),
        with_columns(None, lambda a: np.float32(a[0]), np.float32, None, np.float64),
        with_columns(None, lambda a: float(a[0]), None, None, None),
        with_columns(lambda s: s.astype(">f8"), np.asfortranarray, None, lambda s: np.repeat(s, 2)[::2], None),
    ],
)
def test_the_ways_to_write_a_number_are_read(rows: list[tuple[Any, ...]], protocol: int, tmp_path: Path):
    check_rows(load(dump(tmp_path / "a.pkl", rows, protocol)))


@pytest.mark.parametrize(
    "container", [tuple, deque, lambda rows: deque(rows, maxlen=100), lambda rows: [list(r) for r in rows]]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_containers_are_read(container: Callable[[Any], Any], protocol: int, tmp_path: Path):
    check_rows(load(dump(tmp_path / "a.pkl", container(ROWS), protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_images_keep_their_layout(protocol: int, tmp_path: Path):
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    # The three layouts that NumPy pickles differently
    for layout in (image, np.asfortranarray(image), image.transpose(1, 0, 2).copy().transpose(1, 0, 2)):
        demonstrations = load(dump(tmp_path / "a.pkl", [(layout, np.zeros(1), 0.0, layout, True)], protocol))
        assert box(demonstrations.observations).dtype == np.uint8
        np.testing.assert_array_equal(box(demonstrations.observations)[0], image)


def test_discrete_actions_stay_whole_numbers(tmp_path: Path):
    demonstrations = load(dump(tmp_path / "a.pkl", with_columns(None, lambda a: 3, None, None, None)))
    assert demonstrations.actions.tolist() == [3] * 5
    assert demonstrations.actions.dtype == np.int64


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_files_of_numpy_1_and_2_are_read(module: bytes, tmp_path: Path):
    # Protocol 2 writes names as lines, so that their length may change
    content = pickle.dumps(with_columns(None, None, np.float64, None, None), protocol=2)
    for written in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        content = content.replace(written, module)
    assert module in content
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    check_rows(load(path))


@pytest.mark.parametrize("done_means", [None, "done", True])
def test_the_meaning_of_done_must_be_named(done_means: Any, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=f"done_means={done_means!r}, expected 'truncated' or 'terminated'"):
        load(dump(tmp_path / "a.pkl", ROWS), done_means)
    with pytest.raises(DemonstrationsError, match="done_means=None"):
        Demonstrations.load(tmp_path / "a.pkl")


@pytest.mark.parametrize(("done_means", "other"), [("truncated", "terminated"), ("terminated", "truncated")])
def test_done_is_what_it_is_said_to_mean(done_means: str, other: str, tmp_path: Path):
    demonstrations = load(dump(tmp_path / "a.pkl", ROWS), done_means)
    assert getattr(demonstrations, done_means).tolist() == [False, True, False, False, True]
    assert not getattr(demonstrations, other).any()


def test_an_episode_that_the_file_cuts_off_is_truncated(tmp_path: Path):
    demonstrations = load(dump(tmp_path / "a.pkl", ROWS[:4]), "terminated")
    assert demonstrations.episode_lengths.tolist() == [2, 2]
    assert demonstrations.terminated.tolist() == [False, True, False, False]
    assert demonstrations.truncated.tolist() == [False, False, False, True]


def test_actions_are_mapped_to_the_bounds(tmp_path: Path):
    rows = [transition(step, step == 4, action) for step, action in enumerate((-1, -0.5, 0, 0.5, 1))]
    path = dump(tmp_path / "a.pkl", rows)
    assert load(path, action_low=-2, action_high=2).actions[:, 0].tolist() == [-2, -1, 0, 1, 2]
    assert load(path, action_low=np.array([0]), action_high=np.array([4])).actions[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("option", ["action_low", "action_high"])
def test_one_action_bound_alone_is_refused(option: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match="found only one of action_low and action_high, expected both or none"):
        load(dump(tmp_path / "a.pkl", ROWS), **{option: 2})


def test_actions_outside_the_unit_range_are_not_mapped(tmp_path: Path):
    path = dump(tmp_path / "a.pkl", [*ROWS[:4], transition(4, True, 1.5)])
    with pytest.raises(
        DemonstrationsError, match=r"a.pkl: rescale_actions: found an action of 1.5, expected all in \[-1, 1\]"
    ):
        load(path, action_low=-2, action_high=2)


@pytest.mark.parametrize("container", [list, lambda rows: deque(rows, maxlen=100_000)])
def test_the_layout_of_the_fields_tutorials_fits_its_environment(container: Callable[[Any], Any], tmp_path: Path):
    rng = np.random.default_rng(0)
    rows, states = [], rng.uniform(-1, 1, (1001, 3))
    for step, (state, next_state) in enumerate(pairwise(states)):
        rows.append((state, rng.uniform(-1, 1, 1), -rng.random(), next_state, step % 200 == 199))
    path = dump(tmp_path / "demo.pkl", container(rows))
    demonstrations = load(path, action_low=-2.0, action_high=2.0)
    demonstrations.check_spaces(spaces.Box(-8, 8, (3,), np.float32), spaces.Box(-2, 2, (1,), np.float32))
    assert demonstrations.episode_lengths.tolist() == [200] * 5
    assert demonstrations.truncated.sum() == 5
    np.testing.assert_allclose(demonstrations.actions, [2 * row[1] for row in rows], rtol=0, atol=1e-15)


class Calls:
    """Pickled as a call: whoever unpickles it makes the call."""

    def __init__(self, function: Any, *args: Any, state: Any = None):
        self.call = (function, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class TouchesAFile:
    def __setstate__(self, state: dict[str, Any]) -> None:
        Path(state["marker"]).touch()


def touches_a_file(marker: Path) -> TouchesAFile:
    result = TouchesAFile()
    result.__dict__["marker"] = str(marker)
    return result


PAYLOADS: dict[str, Callable[[Path], Any]] = {
    f"{os.system.__module__}.system": lambda marker: Calls(os.system, f"touch {marker}"),
    "builtins.eval": lambda marker: Calls(eval, f"open({str(marker)!r}, 'w').close()"),
    "builtins.exec": lambda marker: Calls(exec, f"open({str(marker)!r}, 'w').close()"),
    "builtins.getattr": lambda marker: Calls(getattr, Calls(Path, str(marker)), "touch"),
    "subprocess.call": lambda marker: Calls(subprocess.call, ["touch", str(marker)]),
    f"{__name__}.TouchesAFile": touches_a_file,
}
# Where in the file it hides
PLACES: dict[str, Callable[[Any], Any]] = {
    "alone": lambda payload: payload,
    "after the transitions": lambda payload: [*ROWS, payload],
    "in a transition": lambda payload: [(payload, *ROWS[0][1:])],
    "in a dict in a transition": lambda payload: [(*ROWS[0][:4], {"done": [payload]})],
    "in an array of objects": lambda payload: [(np.array([None, payload]), *ROWS[0][1:])],
    "as an argument of an admitted call": lambda payload: Calls(deque, payload),
    "as the state of an admitted object": lambda payload: Calls(deque, [], state={"key": payload}),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_hostile_file_runs_nothing(name: str, place: Callable[[Any], Any], tmp_path: Path):
    marker = tmp_path / "marker"
    path = dump(tmp_path / "a.pkl", place(PAYLOADS[name](marker)))
    with pytest.raises(DemonstrationsError, match=f"a.pkl: found (a reference to {name}|dtype object), expected"):
        load(path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", PAYLOADS)
def test_the_reference_is_named_in_every_protocol(name: str, protocol: int, tmp_path: Path):
    path = dump(tmp_path / "a.pkl", PAYLOADS[name](tmp_path / "marker"), protocol)
    if protocol == 2:
        # It spells names as Python 2 did
        name = name.replace("builtins", "__builtin__").replace("subprocess", "commands")
    with pytest.raises(DemonstrationsError, match=f"found a reference to {name}, expected NumPy"):
        load(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", [name for name in PAYLOADS if name != "builtins.getattr"])
def test_these_payloads_are_live(name: str, tmp_path: Path):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(PAYLOADS[name](marker)))
    assert marker.exists()


@pytest.mark.parametrize(
    "name", ["numpy load", "numpy fromfile", "numpy.lib.npyio load", "collections namedtuple", "numpy ndarray.tofile"]
)
def test_no_other_name_of_an_admitted_module_is_admitted(name: str, tmp_path: Path):
    module, attribute = name.split()
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04c" + f"{module}\n{attribute}\n".encode() + b".")
    with pytest.raises(DemonstrationsError, match=f"found a reference to {module}.{attribute}"):
        load(tmp_path / "a.pkl")


def test_a_dtype_cannot_be_forged(tmp_path: Path):
    # NumPy believes such a state and takes the eight bytes for the address of a Python object
    fields = {"field": (Calls(np.dtype, "O"), 0)}
    forged = Calls(np.dtype, "V8", False, True, state=(3, "|", None, ("field",), fields, 8, 1, 0))
    path = dump(tmp_path / "a.pkl", [(Calls(np.ndarray, (1,), forged, b"A" * 8), 1, 2, 3, 4)])
    with pytest.raises(DemonstrationsError, match=r"found dtype .*, expected numbers"):
        load(path)


def test_numpys_own_dtypes_cannot_be_changed(tmp_path: Path):
    # Without a copy this state, whose flags say that floats are references, would go to the dtype of the whole process
    dump(tmp_path / "a.pkl", [Calls(np.dtype, "f8", state=(3, "<", None, None, None, -1, -1, 1))])
    with pytest.raises(DemonstrationsError, match="transition 0: found dtype"):
        load(tmp_path / "a.pkl")
    assert np.dtype("f8").flags == 0
    assert np.zeros(2).tolist() == [0, 0]


def test_a_memo_larger_than_the_file_is_refused(tmp_path: Path):
    # These ten bytes ask the unpickler for 64 GB
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04]r\xff\xff\xff\xff.")
    with pytest.raises(DemonstrationsError, match="a pickle of 9 bytes that numbers an object 4294967295"):
        load(tmp_path / "a.pkl")


def nested(depth: int) -> list[Any]:
    result: list[Any] = []
    for _ in range(depth):
        result = [result]
    return result


def contains_itself() -> list[Any]:
    result: list[Any] = [1.0]
    result.append(result)
    return result


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "found list of 0, expected a list of"),
        (deque(), "found deque of 0, expected a list"),
        ({"states": [1]}, "found dict of 1, expected a list"),
        (5, "found int, expected a list"),
        ("text", "found str of 4, expected a list"),
        (None, "found nonetype, expected a list"),
        (np.zeros((3, 5)), "found array, expected a list"),
        # It has lost the order of the steps
        ({(0.0, 0.0, 0.0, 0.0, False), (1.0, 0.0, 0.0, 1.0, True)}, "found set of 2, expected a list"),
        ([ROWS[0], ROWS[1][:4]], r"transition 1: found tuple of 4, expected a list of \(s, a, r, s', done\)"),
        ([(*ROWS[0], {})], r"transition 0: found tuple of 6, expected a list of \(s, a, r, s', done\)"),
        ([ROWS[0], 7], "transition 1: found int, expected"),
        # Neither can be printed
        ([10**5000], "transition 0: found int, expected"),
        ([[10**5000]], "transition 0: found list of 1, expected"),
    ],
)
def test_what_is_no_list_of_five_is_refused(content: Any, message: str, tmp_path: Path):
    with pytest.raises(DemonstrationsError, match=f"a.pkl: {message}"):
        load(dump(tmp_path / "a.pkl", content))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, np.zeros(3), r"state: found shapes \[\(2,\), \(3,\)\], expected one shape for all transitions"),
        (1, np.zeros((1, 1)), r"action: found shapes \[\(1,\), \(1, 1\)\], expected one shape"),
        (3, 0.0, r"next_state: found shapes \[\(\), \(2,\)\], expected one shape"),
        (0, [[1.0], [1.0, 2.0]], "state: transition 4: found rows of different shapes"),
        (0, contains_itself(), "found a pickle of .* bytes whose lists unfold to more than"),
        (0, nested(100), "state: transition 4: found rows of different shapes"),
        (0, {"joints": 1}, "state: transition 4: found dtype object, expected numbers"),
        (1, "left", "action: transition 4: found dtype <U4, expected numbers"),
        (1, None, "action: transition 4: found dtype object, expected numbers"),
        (2, 10**30, "reward: transition 4: found dtype object, expected numbers"),
        (2, np.complex64(1j), "found dtype complex64, expected numbers"),
        (2, 1j, "found a reference to builtins.complex, expected NumPy arrays"),
        (2, float("nan"), "rewards: episode 1, step 2, component 0: found nan, expected a finite number"),
        (4, "yes", "done: transition 4: found dtype <U3, expected numbers"),
    ],
)
def test_one_value_that_does_not_fit_is_named(position: int, value: Any, message: str, tmp_path: Path):
    row = list(ROWS[4])
    row[position] = value
    with pytest.raises(DemonstrationsError, match=f"a.pkl: {message}"):
        load(dump(tmp_path / "a.pkl", [*ROWS[:4], tuple(row)]))


@pytest.mark.parametrize(("position", "name"), [(2, "reward"), (4, "done")])
@pytest.mark.parametrize("value", [[], [1.0, 0.0]])
def test_rewards_and_done_are_one_number_each(position: int, name: str, value: list[float], tmp_path: Path):
    rows = [tuple(value if column == position else v for column, v in enumerate(row)) for row in ROWS]
    with pytest.raises(
        DemonstrationsError, match=rf"{name}: found shape \({len(value)},\), expected one number for each step"
    ):
        load(dump(tmp_path / "a.pkl", rows))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_truncated_pickle_is_refused_wherever_it_is_cut(protocol: int, tmp_path: Path):
    content = pickle.dumps(ROWS, protocol=protocol)
    for length in np.linspace(2, len(content) - 1, 30).astype(int):
        (tmp_path / "a.pkl").write_bytes(content[:length])
        with pytest.raises(DemonstrationsError, match="found a pickle that cannot be read to its end"):
            load(tmp_path / "a.pkl")


def test_options_of_another_format_are_named(tmp_path: Path):
    with pytest.raises(
        DemonstrationsError,
        match=r"found option 'actions_low', but pickled .* knows only \['action_high', 'action_low', 'done_means'",
    ):
        load(dump(tmp_path / "a.pkl", ROWS), actions_low=-2)


def load_or_refuse(path: Path) -> Demonstrations | DemonstrationsError:
    try:
        return load(path)
    except DemonstrationsError as error:
        return error


VALID = pickle.dumps(with_columns(None, None, np.float32, None, np.bool_), protocol=4)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(damage=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@example(damage=[])
def test_a_damaged_file_is_read_or_refused(damage: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory):
    content = bytearray(VALID)
    for position, value in damage:
        content[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(content)
    outcome = load_or_refuse(path)
    if isinstance(outcome, DemonstrationsError):
        assert str(path) in str(outcome)
        assert damage
    else:
        assert len(outcome) == outcome.episode_lengths.sum()
