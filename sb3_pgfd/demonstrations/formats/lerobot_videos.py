"""Videos of LeRobot datasets: one for each episode (version 2), or several episodes in one (version 3)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_pgfd.demonstrations.arrays import owned, resized
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.checks import check_size, errors_naming, inside, refuse_pointer
from sb3_pgfd.utils.checks import is_whole
from sb3_pgfd.utils.files import install

_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_PLACES = ("chunk_index", "file_index", "from_timestamp")


class _Part(NamedTuple):
    """Frames of one episode in a video."""

    path: Path
    first: int
    """Number of its first frame in the video"""
    row: int
    """Row of its first step among all steps"""
    length: int


def is_video(info: Mapping[str, Any], key: str) -> bool:
    """:return: Whether the record of a dataset says that a feature is a video"""
    feature = info.get("features", {}).get(key)
    return isinstance(feature, Mapping) and feature.get("dtype") == "video"


def read_videos(
    folder: Path, info: Mapping[str, Any], key: str, numbers: np.ndarray, lengths: np.ndarray, places: Any, size: int | None
) -> np.ndarray:
    """
    :param folder: Of the dataset
    :param info: Its record
    :param key: Of the video
    :param numbers: Of the episodes to read
    :param lengths: Steps of each
    :param places: Columns of version 3 that say where an episode lies in which video, by their name; None: version 2
    :param size: Pixels in each direction to shrink the frames to, None: as they are
    :return: A frame for each step, uint8 of shape ``(n, height, width, 3)``
    :raises DemonstrationsError: If a video is missing or has too few frames
    :raises ImportError: If PyAV is not installed
    """
    if size is not None and not is_whole(size, 1):
        raise DemonstrationsError(f"image_size: found {size!r}, expected a whole number of pixels >= 1, or None")
    parts = sorted(_parts(folder, info, key, numbers, lengths, places))
    frames: np.ndarray | None = None
    for path in dict.fromkeys(part.path for part in parts):
        own = [part for part in parts if part.path == path]
        wanted = {part.first + step: part.row + step for part in own for step in range(part.length)}
        with errors_naming(path.name):
            for number, frame in enumerate(_decoded(path)):
                if number in wanted:
                    frame = frame if size is None else resized(frame, size)
                    if frames is None:
                        check_size(key, frame.nbytes * int(lengths.sum()), copies=2)
                        frames = np.empty((int(lengths.sum()), *frame.shape), dtype=np.uint8)
                    frames[wanted.pop(number)] = frame
                if not wanted:
                    break
        if wanted:
            raise DemonstrationsError(f"{path.name}: found no frame {min(wanted)}, expected one for each step of its episodes")
    assert frames is not None
    return owned(frames)


def _parts(
    folder: Path, info: Mapping[str, Any], key: str, numbers: np.ndarray, lengths: np.ndarray, places: Any
) -> Iterator[_Part]:
    template, fps = str(info.get("video_path") or _PATH), float(info.get("fps") or 0)
    rows = np.cumsum(lengths) - lengths
    for number, row, length in zip(numbers.tolist(), rows.tolist(), lengths.tolist(), strict=True):
        fields = {"video_key": key, "episode_index": number, "episode_chunk": number // int(info.get("chunks_size") or 1000)}
        first = 0
        if places is not None:
            (found,) = np.flatnonzero(places["episode_index"] == number)
            chunk, file, start = (places[f"videos/{key}/{name}"][found].item() for name in _PLACES)
            fields |= {"chunk_index": int(chunk), "file_index": int(file)}
            first = round(start * fps)
        try:
            path = inside(folder, folder / template.format(**fields))
        except (KeyError, IndexError, ValueError) as error:
            raise DemonstrationsError(f"meta/info.json: video_path: found {template!r}, which lacks {error}") from error
        if not path.is_file():
            raise DemonstrationsError(f"{key}: found no {path.relative_to(folder)}, expected the video of episode {number}")
        yield _Part(path, first, row, length)


def place_columns(keys: list[str]) -> list[str]:
    """:return: Columns of ``meta/episodes`` that version 3 needs for these videos"""
    return ["episode_index", *(f"videos/{key}/{name}" for key in keys for name in _PLACES)]


def _decoded(path: Path) -> Iterator[np.ndarray]:
    try:
        import av
    except ImportError as error:
        raise ImportError(f"reading videos needs PyAV: {install('lerobot-video')}") from error
    refuse_pointer(path)
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise DemonstrationsError(f"found a video that cannot be decoded ({error}), expected a whole one") from error
