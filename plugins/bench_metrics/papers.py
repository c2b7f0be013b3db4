"""Papers of more than one metric."""

from __future__ import annotations

import bench

ADEBAYO2018 = bench.Paper(
    "Sanity Checks for Saliency Maps",
    "Julius Adebayo and Justin Gilmer and Michael Muelly and Ian Goodfellow and Moritz Hardt and Been Kim",
    "NeurIPS",
    2018,
    "https://arxiv.org/abs/1810.03292",
)

ARRAS2022 = bench.Paper(
    "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network explanations",
    "Leila Arras and Ahmed Osman and Wojciech Samek",
    "Information Fusion",
    2022,
    "https://arxiv.org/abs/2003.07258",
)

GONG2024 = bench.Paper(
    "Structured Gradient-based Interpretations via Norm-Regularized Adversarial Training",
    "Shizhan Gong and Qi Dou and Farzan Farnia",
    "CVPR",
    2024,
    "https://openaccess.thecvf.com/content/CVPR2024/html/Gong_Structured_Gradient-based_Interpretations_via_"
    "Norm-Regularized_Adversarial_Training_CVPR_2024_paper.html",
)

GHORBANI2019 = bench.Paper(
    "Interpretation of Neural Networks Is Fragile",
    "Amirata Ghorbani and Abubakar Abid and James Zou",
    "AAAI",
    2019,
    "https://doi.org/10.1609/aaai.v33i01.33013681",
)

LIM2021 = bench.Paper(
    "Building Reliable Explanations of Unreliable Neural Networks: Locally Smoothing Perspective of Model "
    "Interpretation",
    "Dohun Lim and Hyeonseok Lee and Sungchan Kim",
    "CVPR",
    2021,
    "https://openaccess.thecvf.com/content/CVPR2021/html/Lim_Building_Reliable_Explanations_of_Unreliable_Neural_"
    "Networks_Locally_Smoothing_Perspective_CVPR_2021_paper.html",
)

JOO2023 = bench.Paper(
    "Towards More Robust Interpretation via Local Gradient Alignment",
    "Sunghwan Joo and Seokhyeon Jeong and Juyeon Heo and Adrian Weller and Taesup Moon",
    "AAAI",
    2023,
    "https://doi.org/10.1609/aaai.v37i7.25986",
)
