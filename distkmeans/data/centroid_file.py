"""Centroids from a file: npy, whoever wrote it, or the tensor ``centroids`` of a safetensors file. Never unpickled."""

from __future__ import annotations

import os
import zipfile

import numpy as np
from torch import Tensor

from distkmeans.data.array import as_rows
from distkmeans.errors import InputError

PICKLES = (".pkl", ".pickle", ".joblib", ".sav", ".pt", ".pth")
"""Endings under which pickle, joblib and torch write."""
PICKLED = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
"""How a pickle begins."""
COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"x\x01",
    b"x^",
    b"x\x9c",
    b"x\xda",
    b"\x5d\x00\x00",
    b"\x04\x22\x4d\x18",
)
"""How what joblib has compressed begins: gzip, bz2, xz, zlib, lzma, lz4."""


def read_centroids(path: str, what: str) -> Tensor:
    """(K, D) of the type that is stored. what: how to name the file. Raises InputError."""
    if not os.path.isfile(path):
        raise InputError(f"{what}: no such file (relative to {os.getcwd()})")
    try:
        if kind := _pickled(path):
            raise InputError(_refusal(what, kind))
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return _centroids_of(load_file(path), what)
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise InputError(f"{what}: an npz archive; save the one array as npy")
        return as_rows(array, what)
    except InputError:
        raise
    except Exception as error:  # whatever the two libraries raise for a damaged file
        text = str(error).split("\n")[0]
        if "Object arrays" in text:
            raise InputError(_refusal(what, "an array of pickled objects")) from error
        reason = (
            "it is neither; save the array alone: np.save('centroids.npy', kmeans.centroids)"
            if "pickle" in text
            else text
        )
        raise InputError(f"{what}: cannot be read as npy or safetensors ({reason})") from error


def _pickled(path: str) -> str:
    """What kind of pickle a file is, by its ending and by how it begins; nothing for what may be read."""
    if path.endswith(".safetensors"):
        return ""
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(COMPRESSED):
        return "a compressed pickle"
    if head.startswith(PICKLED) or path.lower().endswith(PICKLES):
        return "a pickle"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "a pickle of torch" if any(name.endswith(".pkl") for name in archive.namelist()) else ""
    return ""


def _refusal(what: str, kind: str) -> str:
    return (
        f"{what}: cannot be read as npy or safetensors ({kind}, and unpickling runs whatever code a file holds); save"
        " the centroids alone: np.save('centroids.npy', model.cluster_centers_)"
    )


def _centroids_of(tensors: dict[str, Tensor], what: str) -> Tensor:
    if "centroids" not in tensors:
        raise InputError(f"{what}: holds {', '.join(sorted(tensors)) or 'no tensors'}; expected the tensor centroids")
    return as_rows(tensors["centroids"], what)
