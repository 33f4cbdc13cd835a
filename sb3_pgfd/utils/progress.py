"""Progress bars."""

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], visible: bool, description: str, unit: str, total: int | None = None, initial: int = 0
) -> Iterable[Item]:
    """
    :param items: What is gone through
    :param visible: Whether to show a bar
    :param description: In front of the bar
    :param unit: Name of an item
    :param total: How many there are, if they do not know it themselves
    :param initial: How many of these are done already
    :return: The same items
    :raises ImportError: If the bar's libraries are not installed
    """
    if not visible:
        return items
    try:
        from tqdm.rich import tqdm
    except ImportError as error:
        raise ImportError("The progress bar needs tqdm and rich: pip install sb3-pgfd[progress]") from error
    bar: Callable[..., Iterable[Item]] = tqdm
    return bar(items, desc=description, unit=unit, total=total, initial=initial)
