"""A data set as a component: its identity and its form follow from its images."""

from __future__ import annotations

import functools
import typing
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.components.base import Component
from bench.components.data import Data
from bench.components.files import data_dir
from bench.errors import BenchError, EnvironmentProblem, summarise_error

if typing.TYPE_CHECKING:
    from bench.images import Frame


@dataclass(frozen=True)
class Dataset(Component, ABC):
    """Images to train, validate and test on."""

    kind: ClassVar[str] = "dataset"

    @property
    def provides(self) -> frozenset[str]:
        """What comes with the images: "labels", "object_masks", "gaze". Most set a class attribute."""
        return frozenset({"labels"})

    @property
    def frame(self) -> Frame | None:
        """How the set brings images to one size, and `bench explain` a user's pictures; None where it has no rule."""
        return None

    def framed(self, frame: Frame) -> Dataset:
        """The set with its images framed as trained weights expect them, unless its parameters say how already."""
        return self

    @abstractmethod
    def load(self, split: str) -> Data:
        """The rows of "train", "validation" or "test". Must be fast: decode images when they are indexed."""

    @property
    def identity(self) -> str:
        """The component's identity, with the fingerprint of the files that it reads, if any."""
        fingerprint = _look_into(self, data_dir())[0]
        return super().identity + (f"#{fingerprint}" if fingerprint else "")

    @property
    def form(self) -> tuple[tuple[int, int, int], int]:
        """The shape of an image, (C, H, W), and the number of classes. Raises EnvironmentProblem where the set's files
        are not there, or hold no such images."""
        _, shape, classes = _look_into(self, data_dir())
        if len(shape) != 4:
            raise EnvironmentProblem(f"dataset {self}: its images have the shape {shape}, must be (N, C, H, W)")
        _, channels, height, width = shape
        return (channels, height, width), classes


@functools.cache
def _look_into(dataset: Dataset, folder: Path | None) -> tuple[str, tuple[int, ...], int]:
    """The fingerprint of a data set, the shape of all its test images, and the number of its classes."""
    try:
        data = dataset.load("test")
        return data.fingerprint, tuple(getattr(data.images, "shape", ())), len(data.classes)
    except BenchError:
        raise
    except Exception as error:
        raise EnvironmentProblem(f"dataset {dataset} cannot be loaded ({summarise_error(error)})") from error
