"""Videos of episodes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.utils.files import write_whole


@contextmanager
def write_video(path: Path, fps: float, overwrite: bool = False) -> Iterator[Callable[[np.ndarray], None]]:
    """
    A function that takes one frame after the other; the video is there, whole, when the block is left. Frames go to the
    encoder at once: a minute of a small picture takes a gigabyte in memory.

    :param path: Ending ``.mp4``
    :param fps: Frames per second
    :param overwrite: Whether an existing file may be replaced
    :raises DemonstrationsError: If the path has another ending, or there was no frame
    :raises FileExistsError: If there is a file already
    :raises ImportError: If moviepy is not installed
    """
    check_video_path(path)
    try:
        from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter
    except ImportError as error:
        raise ImportError(f"Videos need moviepy ({error}): pip install sb3-pgfd[video]") from error
    with write_whole(path, overwrite) as temporary:
        encoder: Any = None

        def add(frame: np.ndarray) -> None:
            nonlocal encoder
            frame = _even(frame)
            if encoder is None:
                # The temporary name does not say which kind of file it is
                size, options = (frame.shape[1], frame.shape[0]), ["-f", "mp4"]
                encoder = FFMPEG_VideoWriter(str(temporary), size, fps, ffmpeg_params=options)
            encoder.write_frame(frame)

        try:
            yield add
        finally:
            if encoder is not None:
                encoder.close()
        if temporary.stat().st_size == 0:
            raise DemonstrationsError(f"{path}: found no frame, expected at least one: is there an episode to show?")


def check_video_path(path: Path) -> None:
    """:raises DemonstrationsError: If the path does not end with ``.mp4``"""
    if path.suffix.lower() != ".mp4":
        raise DemonstrationsError(f"{path}: found the ending {path.suffix!r}, expected '.mp4'")


def _even(frame: np.ndarray) -> np.ndarray:
    """What players can show has an even number of rows and columns."""
    rows, columns = frame.shape[0] % 2, frame.shape[1] % 2
    return np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else frame
