"""Files of other writers that cannot be read as they are: what wrote them, and the lines that bring them in."""

import zipfile
from pathlib import Path

from sb3_pgfd.demonstrations.formats.checks import explain_pointer, starts_with

_AS_PICKLE = (
    "If you trust it, write a plain pickle: import joblib, pickle; pickle.dump(joblib.load({name!r}), open('plain.pkl', 'wb'))"
    " and load 'plain.pkl'"
)
# What joblib's compressors and gzip begin with
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00", b"ZF")
# Of the class that stands in for each array
_JOBLIB = b"NumpyArrayWrapper"


def explain(path: Path) -> str | None:
    """:return: What is to be done with a file of another writer, None: this is none"""
    if advice := explain_pointer(path):
        return advice
    if starts_with(path, b"\x80") and _JOBLIB in path.read_bytes():
        return f"found a file by joblib.dump, expected a plain pickle. {_AS_PICKLE.format(name=path.name)}"
    if starts_with(path, *_COMPRESSED):
        return (
            "found a compressed file, by gzip or by joblib.dump(..., compress=True), expected it unpacked. gunzip unpacks the "
            f"first. The second: {_AS_PICKLE.format(name=path.name)}"
        )
    return _explain_zip(path) if starts_with(path, b"PK\x03\x04") else None


def _explain_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()[:1000]}
    # The reader says what is wrong with it
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None
    if {"data", "policy.pth"} <= names:
        return (
            "found a model saved by Stable-Baselines3, expected demonstrations. Record some with it: "
            "sb3_pgfd.demonstrations.record(model, env, n_episodes=10).save('demos.npz')"
        )
    if "data.pkl" in names:
        return (
            f"found a file by torch.save, expected arrays. data = torch.load({path.name!r}, weights_only=True); "
            "Demonstrations.from_transitions(data['observations'].numpy(), ...).save('demos.npz') writes them, with the names "
            "that the file has"
        )
    return None
