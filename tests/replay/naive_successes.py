"""Successful episodes kept by a replay buffer of plain Python lists."""

from typing import Any

from naive_buffer import NaiveBuffer, Step


def info_of(event: str, success: bool | None, key: str = "is_success") -> dict[str, Any]:
    """What an environment says in a step. None: nothing about success"""
    timeout = {"TimeLimit.truncated": True} if event == "u" else {}
    return timeout if success is None else {**timeout, key: success}


class NaiveSuccesses(NaiveBuffer):
    """A :class:`NaiveBuffer` that keeps successes as well."""

    def __init__(self, n_envs: int, ring_steps: int):
        super().__init__(n_envs, ring_steps)
        self.waiting: list[list[Step]] = []
        self.is_kept: list[bool] = []

    def add_demonstrations(self, episodes: list[list[Step]], kept: bool = False) -> None:
        super().add_demonstrations(episodes)
        self.is_kept += [kept for steps in episodes for _ in steps]

    def add_with_successes(self, steps: list[Step], successes: list[bool | None]) -> None:
        """
        :param steps: One transition per environment
        :param successes: What its info says
        """
        self.add(steps)
        for history, told, step, success in zip(self.histories, self.told, steps, successes, strict=True):
            told.append(bool(success))
            # Not what was a success before anything was done
            if step.event in "tu" and success and (len(told) == 1 or not told[0]):
                self.waiting.append(self.last_episode(history))
            # One row does not tell where an episode began
            if step.event != "-" or self.ring_steps == 1:
                told.clear()
        stored = len(self.demo_priorities) + min(len(self.histories[0]), self.ring_steps) * self.n_envs
        # One of a hundred
        if self.waiting and 100 * sum(map(len, self.waiting)) >= stored:
            self.add_demonstrations(self.waiting, kept=True)
            self.waiting = []

    def reset(self) -> None:
        super().reset()
        self.told: list[list[bool]] = [[] for _ in range(self.n_envs)]

    def last_episode(self, history: list[Step]) -> list[Step]:
        """:return: Of one environment, as far as the ring still holds it"""
        episode = [history[-1]]
        for step in history[-2 : -self.ring_steps - 1 : -1]:
            if step.event != "-":
                break
            episode.insert(0, step)
        return episode
