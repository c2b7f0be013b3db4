"""A network of one's own, from Python: SqueezeNet for ImageNet-1k with its own handling of images, explained.

python benchmarks/own_network.py DATA

DATA holds imagenet-sample/ and weights/squeezenet1_0-deepcompression-fp16.pt. Prints the share of images classified as
labelled (203 of 324), and for each explainer the time of 32 images and the peak of memory so far (1.6 GB). Sides are
rounded to the nearest pixel here; torchvision cuts them off, as `parquet` does, and then 200 are right.
"""

from __future__ import annotations

import io
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import squeezenet1_0

import bench

EXPLAINERS = ("gradient", "integrated_gradients", "gradcam", "smoothgrad:samples=16", "guided_backprop", "deeplift")


class Own(nn.Module):
    """Images in [0, 1], RGB, to logits: the weights want BGR from 0 to 255 less a mean."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.network = squeezenet1_0(num_classes=1000)
        self.network.classifier[1] = nn.Conv2d(512, 1000, 1, padding=1)
        found = torch.load(weights, weights_only=True)
        self.network.load_state_dict({name: values.float() for name, values in found.items()})
        self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.flip(1) * 255 - self.mean)


def loaded(content: bytes) -> Tensor:
    """The middle 227 pixels of an image whose shorter side is 256."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    width, height = image.size
    image = image.resize([round(256 * side / min(width, height)) for side in (width, height)], Image.BILINEAR)
    left, top = (image.width - 227) // 2, (image.height - 227) // 2
    pixels = np.asarray(image.crop((left, top, left + 227, top + 227)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def main() -> None:
    data = Path(sys.argv[1])
    network = Own(data / "weights" / "squeezenet1_0-deepcompression-fp16.pt").eval().requires_grad_(False)
    table = pyarrow.parquet.read_table(next((data / "imagenet-sample").glob("*.parquet"))).to_pydict()
    images, labels = torch.stack([loaded(row["bytes"]) for row in table["image"]]), torch.tensor(table["label"])
    with torch.no_grad():
        predicted = torch.cat([network(part).argmax(1) for part in images.split(32)])
    right = int((predicted == labels).sum())
    print(f"{right} of {len(labels)} as labelled, {right / len(labels):.2%}")
    for text in EXPLAINERS:
        explainer, began = bench.component("explainer", text), time.perf_counter()
        with torch.no_grad():  # in the chunks that the harness takes, so that memory does not grow with the images
            maps = bench.chunked(
                lambda part, of, explainer=explainer: explainer.maps(network, part, of),
                images[:32], predicted[:32], seed=0, name=text, indices=torch.arange(32),
            )  # fmt: skip
        assert maps.isfinite().all()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{text:<24} {time.perf_counter() - began:6.1f} s, peak {peak:.2f} GB")


if __name__ == "__main__":
    main()
