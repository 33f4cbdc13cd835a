"""The sum tree's loops in machine code, where numba is installed (``pip install sb3-pgfd[fast]``): several times as fast."""

import numba
import numpy as np


@numba.njit(cache=True)
def sum_blocks(children: np.ndarray, parents: np.ndarray, indices: np.ndarray) -> None:
    """
    Let some parents be the sums of their 16 children, added up in the order in which ``np.add.reduce`` does it.

    :param children: A level of the tree
    :param parents: The level above
    :param indices: Which parents
    """
    for index in indices:
        c = children[16 * index : 16 * index + 16]
        low = ((c[0] + c[8]) + (c[1] + c[9])) + ((c[2] + c[10]) + (c[3] + c[11]))
        high = ((c[4] + c[12]) + (c[5] + c[13])) + ((c[6] + c[14]) + (c[7] + c[15]))
        parents[index] = low + high


@numba.njit(cache=True)
def cumulate(level: np.ndarray, sums: np.ndarray) -> None:
    """
    :param level: Weights
    :param sums: Written: 0, w_0, w_0 + w_1, ...
    """
    total = 0.0
    for index in range(len(level)):
        total += level[index]
        sums[index + 1] = total


@numba.njit(cache=True)
def find_in_sums(sums: np.ndarray, rest: np.ndarray, indices: np.ndarray) -> None:
    """
    :param sums: Of :func:`cumulate`
    :param rest: Numbers below the last of the sums, mostly in rising order; what the weights before leave is written
    :param indices: Written: in which weight each number lies
    """
    index, before = 0, -1.0
    for draw in range(len(rest)):
        if rest[draw] < before:
            index = 0
        before = rest[draw]
        while sums[index + 1] <= before:
            index += 1
        indices[draw] = index
        rest[draw] -= sums[index]


@numba.njit(cache=True)
def find_in_blocks(children: np.ndarray, rest: np.ndarray, indices: np.ndarray) -> None:
    """
    Go down one level. A child of weight 0 is never found.

    :param children: The level below
    :param rest: Numbers within the weights of the parents; what the children before leave is written
    :param indices: Of the parents; those of the children are written
    """
    for draw in range(len(rest)):
        first, x = 16 * indices[draw], rest[draw]
        before, total = 0.0, 0.0
        for child in range(first, first + 16):
            if children[child] > 0.0:
                # The last one if a rounding error puts the number above all
                indices[draw], before = child, total
                total += children[child]
                if x < total:
                    break
        rest[draw] = x - before
