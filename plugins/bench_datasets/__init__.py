"""Data sets."""

from collections.abc import Iterable

import bench
from bench_datasets.cifar10 import CIFAR10
from bench_datasets.cub_gha import CUBGHA
from bench_datasets.flowers import Flowers
from bench_datasets.folder import Folder
from bench_datasets.imagenet100 import ImageNet100
from bench_datasets.imagenette import Imagenette
from bench_datasets.parquet import Parquet
from bench_datasets.scene_gaze import SceneGaze
from bench_datasets.shapes import Shapes


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [CIFAR10, CUBGHA, Flowers, Folder, ImageNet100, Imagenette, Parquet, SceneGaze, Shapes]
