"""What a component is: its text form, the files it reads, the seven kinds, and a case."""

from bench.components.ball import Ball
from bench.components.base import Component, check_parameters, param, parameters, write
from bench.components.case import Case, cases
from bench.components.data import Data
from bench.components.dataset import Dataset
from bench.components.files import data_dir, freeze_files, know_files, remember, use_data_dir
from bench.components.kinds import (
    KINDS,
    Attack,
    Defense,
    Explainer,
    Levels,
    MaskRule,
    Metric,
    Model,
    Schedule,
    Undefined,
    defenses_in,
)
from bench.components.text import read
from bench.components.victim import Prepared, Victim
