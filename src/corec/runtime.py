"""ONNX Runtime: arrays in, arrays out; one session for each model file and thread budget."""

import os
from pathlib import Path
from threading import Lock

import numpy as np

from corec.errors import ModelError

Key = tuple[tuple[tuple[Path, str], ...], int]
"""Of a loaded network: its files, each with its checksum, and its threads."""


class Network:
    """A loaded network: (H, W, C) float32 and, if it takes them, steps and a picture -> (H', W', C') float32."""

    def __init__(self, data: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # tiles are few and large: give their memory back
        options.log_severity_level = 4  # what goes wrong is told by our own errors
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen kinds
            raise ModelError(f"a network cannot be loaded: {error}") from error
        self.inputs = [wanted.name for wanted in self.session.get_inputs()]

    def __call__(self, image: np.ndarray, log_step: np.ndarray | None = None) -> np.ndarray:
        """image (H, W, C), of a size the network takes: a picture in 0..1, or latents; log_step (n,): the natural
        logarithms of quantiser steps, which networks in front of or behind a codec may be told. Around a standard
        codec n is 1 or 2, of levels; in a learned one as many as there are latents, of pictures in 0..1."""
        return self.every(image, log_step)[0]

    def every(
        self, image: np.ndarray, log_step: np.ndarray | None = None, picture: np.ndarray | None = None
    ) -> list[np.ndarray]:
        """All that a network makes of an image, and of a picture (H, W, C) in 0..1, if it takes one."""
        told = {"image": batch(image)}
        if log_step is not None:
            told["log_step"] = log_step.astype(np.float32)[None]
        if picture is not None:
            told["picture"] = batch(picture)
        try:
            outputs = self.session.run(None, {name: told[name] for name in self.inputs})
        except Exception as error:
            raise ModelError(f"a network failed on an image of {image.shape[1]}x{image.shape[0]}: {error}") from error
        return [np.asarray(output)[0].transpose(1, 2, 0) for output in outputs]

    @property
    def takes_steps(self) -> bool:
        """Whether it is told the quantiser's steps."""
        return "log_step" in self.inputs

    @property
    def planes(self) -> int:
        """C of the image that it takes."""
        return int(self.session.get_inputs()[self.inputs.index("image")].shape[1])


def batch(image: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (1, C, H, W) float32."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


class Cache:
    """The networks that were used last, at most so many.

    A forked process has the networks, but not their threads; to use one, or to end it, would wait for these for ever.
    So it loads its own, and keeps the others as they are.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.left: list[dict[Key, Network]] = []
        self.begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.leave)

    def begin(self) -> None:
        self.networks: dict[Key, Network] = {}
        self.lock = Lock()

    def leave(self) -> None:
        self.left.append(self.networks)
        self.begin()

    def get(self, files: tuple[tuple[Path, str], ...], threads: int) -> Network:
        key = files, threads
        with self.lock:
            found = self.networks.pop(key, None) or Network(b"".join(checked(*file) for file in files), threads)
            self.networks[key] = found  # the last used comes last
            while len(self.networks) > self.most:
                del self.networks[next(iter(self.networks))]
        return found


CACHE = Cache(16)


def network(*files: tuple[Path, str], threads: int = 0) -> Network:
    """The network of one or several files, one behind the other, each with a checksum that must agree; loaded once.

    threads: 0 for all allowed cores. Raises ModelError for a missing or altered file.
    """
    return CACHE.get(files, threads or available_threads())


def checked(path: Path, sha256: str) -> bytes:
    """The bytes of a model's file, whose checksum must agree. Raises ModelError."""
    import hashlib

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the model file {path.name} is missing or unreadable: reinstall Corec") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"the model file {path.name} was altered (its sha256 differs): reinstall Corec")
    return data


def available_threads() -> int:
    """OMP_NUM_THREADS if set, else the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
