"""Putting something of ours in place of something of the RL Zoo's, for a while."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NOTHING = object()


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """
    :param owner: A module or class
    :param name: Of what is replaced in it, until the block is left; there need not be anything
    :param value: What takes its place
    """
    before = getattr(owner, name, _NOTHING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _NOTHING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def environment_variables(**values: str) -> Iterator[None]:
    """:param values: What they are until the block is left"""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
