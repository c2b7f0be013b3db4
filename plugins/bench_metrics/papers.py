"""Papers of more than one metric."""

from __future__ import annotations

import bench

ARRAS2022 = bench.Paper(
    "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network explanations",
    "Leila Arras and Ahmed Osman and Wojciech Samek",
    "Information Fusion",
    2022,
    "https://arxiv.org/abs/2003.07258",
)

GHORBANI2019 = bench.Paper(
    "Interpretation of Neural Networks Is Fragile",
    "Amirata Ghorbani and Abubakar Abid and James Zou",
    "AAAI",
    2019,
    "https://doi.org/10.1609/aaai.v33i01.33013681",
)

JOO2023 = bench.Paper(
    "Towards More Robust Interpretation via Local Gradient Alignment",
    "Sunghwan Joo and Seokhyeon Jeong and Juyeon Heo and Adrian Weller and Taesup Moon",
    "AAAI",
    2023,
    "https://doi.org/10.1609/aaai.v37i7.25986",
)
