"""What is changed in the RL Zoo's ``record_training``, which calls ffmpeg."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sb3_pgfd.utils.files import write_whole
from sb3_pgfd.zoo.commands.playing import check_env
from sb3_pgfd.zoo.commands.subprocesses import our_subprocesses
from sb3_pgfd.zoo.errors import CommandError
from sb3_pgfd.zoo.replacing import environment_variables

# No system's own fonts: a small one has none
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>
"""


@contextmanager
def ffmpeg_on_path() -> Iterator[None]:
    """
    A command ``ffmpeg``, for as long as the block runs. Where the system has none it is the one that moviepy brings, which
    writes text in a font that matplotlib brings.

    :raises ImportError: If there is none at all
    """
    if shutil.which("ffmpeg"):
        yield
        return
    try:
        import matplotlib
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise ImportError(f"Videos need ffmpeg ({error}): pip install sb3-pgfd[zoo]") from error
    with TemporaryDirectory(prefix="sb3-pgfd-ffmpeg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.name == "nt":
            shutil.copy(get_ffmpeg_exe(), folder / "ffmpeg.exe")
        else:
            (folder / "ffmpeg").symlink_to(get_ffmpeg_exe())
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        (folder / "fonts.conf").write_text(_FONTS.format(fonts=fonts, cache=folder / "cache"))
        variables = {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        if "FONTCONFIG_FILE" not in os.environ:
            variables["FONTCONFIG_FILE"] = str(folder / "fonts.conf")
        with environment_variables(**variables):
            yield


@contextmanager
def recorded_elsewhere(options: argparse.Namespace) -> Iterator[None]:
    """
    Let the Zoo record into a temporary folder, and bring what it recorded to where it is wanted. It does not quote the
    paths that it gives to ffmpeg, and begins with deleting all that is in the folder.

    :param options: Gets ``staging``, the temporary folder
    :raises CommandError: If ffmpeg did not make what it should have
    """
    with TemporaryDirectory(prefix="sb3-pgfd-") as name:
        options.staging = Path(name) / "videos"
        with ffmpeg_on_path(), our_subprocesses(options):
            yield
        for ending in ("mp4", "gif") if options.gif else ("mp4",):
            made = options.staging / f"training.{ending}"
            if not (made.is_file() and made.stat().st_size):
                raise CommandError(f"found no {made.name}, expected ffmpeg to make it: its own messages are above")
        for path in sorted(options.staging.iterdir()):
            with write_whole(options.destination / path.name, overwrite=True) as temporary:
                shutil.copyfile(path, temporary)
    print(f"The videos are in {options.destination}")


def check_record_training(options: argparse.Namespace) -> None:
    """
    :raises CommandError: If there is no run to record, or the temporary folder has a name that the Zoo cannot use
    """
    from rl_zoo3.utils import get_latest_run_id

    check_env(options)
    parent = Path(options.folder) / options.algo
    number = options.exp_id or get_latest_run_id(str(parent), options.env)
    run = parent / f"{options.env}_{number}" if number > 0 else parent
    models = [run / f"{options.env}.zip", run / "best_model.zip", *run.glob("rl_model_*_steps.zip")]
    if (number == 0 and options.exp_id == 0) or not any(model.is_file() for model in models):
        raise CommandError(f"{run}: found no model of {options.algo} on {options.env}, expected one: see --folder, --exp-id")
    if shlex.quote(str(options.staging)) != str(options.staging) and os.name != "nt":
        raise CommandError(
            f"{options.staging.parent}: found a temporary folder whose name ffmpeg would not get whole, expected one without "
            "spaces and quotes: set TMPDIR"
        )
    options.destination = Path(options.output_folder) if options.output_folder else run.resolve() / "videos"
    options.output_folder = str(options.staging)
