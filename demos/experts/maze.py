"""A controller for the PointMaze tasks of gymnasium-robotics."""

from collections import deque
from collections.abc import Mapping, Sequence

import gymnasium as gym
import numpy as np

Cell = tuple[int, int]

_WALL = 1
_NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))


class Waypoints:
    """
    PointMaze: along the shortest path from cell to cell, each step towards the centre of the next one (in the last one
    towards the goal) with a proportional-derivative controller.

    :param env: Whose maze it is
    :param gain: Force per metre to the next waypoint
    :param damping: Force per metre per second
    """

    def __init__(self, env: gym.Env, gain: float = 10.0, damping: float = 1.0):
        self.maze = env.get_wrapper_attr("maze")
        self.gain, self.damping = gain, damping

    def __call__(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """
        :param observation: Of the environment, with its keys
        :return: Force in [-1, 1]^2
        """
        position, velocity = observation["achieved_goal"], observation["observation"][2:4]
        force = self.gain * (self._waypoint(position, observation["desired_goal"]) - position) - self.damping * velocity
        return np.clip(force, -1.0, 1.0).astype(np.float32)

    def _waypoint(self, position: np.ndarray, goal: np.ndarray) -> np.ndarray:
        path = shortest_path(self.maze.maze_map, self._cell(position), self._cell(goal))
        # Across the border of the last two cells the goal is near and nothing in between
        if len(path) == 1 or (len(path) == 2 and np.linalg.norm(goal - position) < 0.5):
            return goal
        return self.maze.cell_rowcol_to_xy(np.array(path[1]))

    def _cell(self, position: np.ndarray) -> Cell:
        row, column = self.maze.cell_xy_to_rowcol(position)
        return int(row), int(column)


def shortest_path(maze_map: Sequence[Sequence[object]], start: Cell, goal: Cell) -> list[Cell]:
    """
    Breadth-first search over the cells.

    :param maze_map: Rows of the maze; a cell that is 1 is a wall, everything else is free
    :param start: Row and column
    :param goal: Row and column
    :return: The cells from start to goal, both included
    :raises ValueError: If there is no way
    """
    # From the goal, so that the links lead towards it
    towards_goal: dict[Cell, Cell] = {goal: goal}
    queue = deque([goal])
    while queue and start not in towards_goal:
        cell = queue.popleft()
        for down, right in _NEIGHBOURS:
            near = (cell[0] + down, cell[1] + right)
            inside = 0 <= near[0] < len(maze_map) and 0 <= near[1] < len(maze_map[0])
            if inside and near not in towards_goal and maze_map[near[0]][near[1]] != _WALL:
                towards_goal[near] = cell
                queue.append(near)
    if start not in towards_goal:
        raise ValueError(f"maze: found no way from cell {start} to cell {goal}, expected free cells that connect them")
    path = [start]
    while path[-1] != goal:
        path.append(towards_goal[path[-1]])
    return path
