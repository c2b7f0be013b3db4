"""Where methods were published: what a citation holds, and the papers that several packages cite."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    authors: str
    venue: str
    year: int
    url: str = ""

    @property
    def bibtex(self) -> str:
        surname = _plain(self.authors.split(",")[0].split(" and ")[0].split()[-1])
        word = _plain(self.title.split()[0])
        rows = {
            "title": self.title,
            "author": self.authors,
            "booktitle": self.venue,
            "year": self.year,
            "url": self.url,
        }
        body = ",\n".join(f"  {key} = {{{value}}}" for key, value in rows.items() if value)
        return f"@inproceedings{{{surname}{self.year}{word},\n{body}\n}}"


def _plain(word: str) -> str:
    """A word in small letters without accents, which a key of BibTeX may not have."""
    return re.sub(r"\W", "", unicodedata.normalize("NFKD", word).lower())


ADEBAYO2018 = Paper(
    "Sanity Checks for Saliency Maps",
    "Julius Adebayo and Justin Gilmer and Michael Muelly and Ian Goodfellow and Moritz Hardt and Been Kim",
    "NeurIPS",
    2018,
    "https://arxiv.org/abs/1810.03292",
)

ANDERS2020 = Paper(
    "Fairwashing Explanations with Off-Manifold Detergent",
    "Christopher J. Anders and Plamen Pasliev and Ann-Kathrin Dombrowski and Klaus-Robert Müller and Pan Kessel",
    "ICML",
    2020,
    "https://proceedings.mlr.press/v119/anders20a.html",
)

ANANI2025 = Paper(
    "Pixel-level Certified Explanations via Randomized Smoothing",
    "Alaa Anani and Tobias Lorenz and Mario Fritz and Bernt Schiele",
    "ICML",
    2025,
    "https://arxiv.org/abs/2506.15499",
)

BOHLE2022 = Paper(
    "B-cos Networks: Alignment is All We Need for Interpretability",
    "Moritz Böhle and Mario Fritz and Bernt Schiele",
    "CVPR",
    2022,
    "https://arxiv.org/abs/2205.10268",
)

CHEN2024 = Paper(
    "Training for Stable Explanation for Free",
    "Chao Chen and Chenghua Guo and Rufeng Chen and Guixiang Ma and Ming Zeng and Xiangwen Liao and Xi Zhang and "
    "Sihong Xie",
    "NeurIPS",
    2024,
    "https://arxiv.org/abs/2212.14106",
)

DOMBROWSKI2019 = Paper(
    "Explanations can be manipulated and geometry is to blame",
    "Ann-Kathrin Dombrowski and Maximilian Alber and Christopher J. Anders and Marcel Ackermann and Klaus-Robert "
    "Müller and Pan Kessel",
    "NeurIPS",
    2019,
    "https://arxiv.org/abs/1906.07983",
)

DOMBROWSKI2022 = Paper(
    "Towards robust explanations for deep neural networks",
    "Ann-Kathrin Dombrowski and Christopher J. Anders and Klaus-Robert Müller and Pan Kessel",
    "Pattern Recognition",
    2022,
    "https://doi.org/10.1016/j.patcog.2021.108194",
)

GHORBANI2019 = Paper(
    "Interpretation of Neural Networks Is Fragile",
    "Amirata Ghorbani and Abubakar Abid and James Zou",
    "AAAI",
    2019,
    "https://doi.org/10.1609/aaai.v33i01.33013681",
)

GONG2024 = Paper(
    "Structured Gradient-based Interpretations via Norm-Regularized Adversarial Training",
    "Shizhan Gong and Qi Dou and Farzan Farnia",
    "CVPR",
    2024,
    "https://openaccess.thecvf.com/content/CVPR2024/html/Gong_Structured_Gradient-based_Interpretations_via_"
    "Norm-Regularized_Adversarial_Training_CVPR_2024_paper.html",
)

JOO2023 = Paper(
    "Towards More Robust Interpretation via Local Gradient Alignment",
    "Sunghwan Joo and Seokhyeon Jeong and Juyeon Heo and Adrian Weller and Taesup Moon",
    "AAAI",
    2023,
    "https://doi.org/10.1609/aaai.v37i7.25986",
)

LEVINE2019 = Paper(
    "Certifiably Robust Interpretation in Deep Learning",
    "Alexander Levine and Sahil Singla and Soheil Feizi",
    "arXiv",
    2019,
    "https://arxiv.org/abs/1905.12105",
)

LIM2021 = Paper(
    "Building Reliable Explanations of Unreliable Neural Networks: Locally Smoothing Perspective of Model "
    "Interpretation",
    "Dohun Lim and Hyeonseok Lee and Sungchan Kim",
    "CVPR",
    2021,
    "https://openaccess.thecvf.com/content/CVPR2021/html/Lim_Building_Reliable_Explanations_of_Unreliable_Neural_"
    "Networks_Locally_Smoothing_Perspective_CVPR_2021_paper.html",
)

MADRY2018 = Paper(
    "Towards Deep Learning Models Resistant to Adversarial Attacks",
    "Aleksander Madry and Aleksandar Makelov and Ludwig Schmidt and Dimitris Tsipras and Adrian Vladu",
    "ICLR",
    2018,
    "https://arxiv.org/abs/1706.06083",
)

NOPPEL2023 = Paper(
    "Disguising Attacks with Explanation-Aware Backdoors",
    "Maximilian Noppel and Lukas Peter and Christian Wressnegger",
    "IEEE Symposium on Security and Privacy",
    2023,
    "https://arxiv.org/abs/2204.09498",
)

PETSIUK2018 = Paper(
    "RISE: Randomized Input Sampling for Explanation of Black-box Models",
    "Vitali Petsiuk and Abir Das and Kate Saenko",
    "BMVC",
    2018,
    "https://arxiv.org/abs/1806.07421",
)

SINGH2020 = Paper(
    "Attributional Robustness Training Using Input-Gradient Spatial Alignment",
    "Mayank Singh and Nupur Kumari and Puneet Mangla and Abhishek Sinha and Vineeth N Balasubramanian and Balaji "
    "Krishnamurthy",
    "ECCV",
    2020,
    "https://arxiv.org/abs/1911.13073",
)

SMILKOV2017 = Paper(
    "SmoothGrad: removing noise by adding noise",
    "Daniel Smilkov and Nikhil Thorat and Been Kim and Fernanda Viégas and Martin Wattenberg",
    "ICML Workshop on Visualization for Deep Learning",
    2017,
    "https://arxiv.org/abs/1706.03825",
)

WANG2020 = Paper(
    "Smoothed Geometry for Robust Attribution",
    "Zifan Wang and Haofan Wang and Shakul Ramkumar and Piotr Mardziel and Matt Fredrikson and Anupam Datta",
    "NeurIPS",
    2020,
    "https://arxiv.org/abs/2006.06643",
)

ZHANG2020 = Paper(
    "Interpretable Deep Learning under Fire",
    "Xinyang Zhang and Ningfei Wang and Hua Shen and Shouling Ji and Xiapu Luo and Ting Wang",
    "USENIX Security",
    2020,
    "https://arxiv.org/abs/1812.00891",
)
