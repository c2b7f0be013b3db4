"""Global state of torch and of the process that a component could leave changed: how it is read and put back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as nn_module
from torch.utils import _python_dispatch

DEVICES = ("cpu", "cuda")  # whose autocast is looked at
OWN = ("BENCH_", "OMP_", "CUDA_")  # the environment's variables that change where and how the suite computes


@dataclass(frozen=True)
class Setting:
    """A part of the global state, its name in messages, and how it is read and put back."""

    name: str
    read: Callable[[], Any]
    put: Callable[[Any], object]

    def value(self) -> Any:
        try:
            return self.read()
        except RuntimeError as error:  # torch refuses to read some flags after a mixture of old and new ones was set
            return str(error)


def _put_device(name: str) -> None:
    torch.set_default_device(None if name == "cpu" else name)


def _put_modes(modes: list[Any]) -> None:
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    for mode in modes:
        torch._C._push_on_torch_function_stack(mode)


def _read_modes() -> list[Any]:
    count: int = torch._C._len_torch_function_stack()
    return [torch._C._get_function_stack_at(place) for place in range(count)]


def _put_dispatch_modes(count: int) -> None:
    while torch._C._len_torch_dispatch_stack() > count:
        _python_dispatch._pop_mode()


_lasting: list[Any] = []  # contexts that are entered for good


def _put_inference(is_on: bool) -> None:
    context = torch.inference_mode(is_on)
    context.__enter__()  # the one that was left on cannot be reached
    _lasting.append(context)


def _flushes() -> bool:
    return float(torch.tensor(1e-42, dtype=torch.float32, device="cpu") * 1) == 0


def _read_hooks() -> list[dict[Any, Any]]:
    return [dict(hooks) for hooks in _hooks()]


def _put_hooks(kept: list[dict[Any, Any]]) -> None:
    for hooks, before in zip(_hooks(), kept, strict=True):
        hooks.clear()
        hooks.update(before)


def _hooks() -> list[dict[Any, Any]]:
    return [
        value
        for name, value in sorted(vars(nn_module).items())
        if name.startswith("_global_") and name.endswith("_hooks") and isinstance(value, dict)
    ]


def _put_environment(kept: dict[str, str]) -> None:
    for name in set(_read_environment()) - set(kept):
        del os.environ[name]
    os.environ.update(kept)


def _read_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if name.startswith(OWN)}  # values are slow to decode


def _put_saved_hooks(kept: Any) -> None:
    while _read_saved_hooks() is not kept and _read_saved_hooks() is not None:
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _read_saved_hooks() -> Any:
    found = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return found[0] if found else None


def _flag(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _autocast(device: str) -> list[Setting]:
    return [
        Setting(
            f"torch's autocast on {device}",
            lambda: torch.is_autocast_enabled(device),
            lambda is_on: torch.set_autocast_enabled(device, is_on),
        ),
        Setting(
            f"the dtype of torch's autocast on {device}",
            lambda: torch.get_autocast_dtype(device),
            lambda dtype: torch.set_autocast_dtype(device, dtype),
        ),
    ]


# In the order in which they are put back: a default device is a mode of functions.
SETTINGS: tuple[Setting, ...] = (
    Setting("torch's inference mode", torch.is_inference_mode_enabled, _put_inference),
    Setting("torch's default device", lambda: str(torch.get_default_device()), _put_device),
    Setting("torch's modes of functions", _read_modes, _put_modes),
    Setting("torch's modes of dispatch", torch._C._len_torch_dispatch_stack, _put_dispatch_modes),
    Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("torch's grad mode", torch.is_grad_enabled, torch._C._set_grad_enabled),
    *(setting for device in DEVICES for setting in _autocast(device)),
    Setting("torch's hooks of all modules", _read_hooks, _put_hooks),
    Setting("torch's hooks of saved tensors", _read_saved_hooks, _put_saved_hooks),
    Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("torch's flushing of tiny numbers", _flushes, torch.set_flush_denormal),
    Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Setting(
        "torch's deterministic algorithms",
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1]),
    ),
    Setting("torch.backends.mkldnn.enabled", torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
    Setting("torch.backends.cudnn.enabled", torch._C._get_cudnn_enabled, torch._C._set_cudnn_enabled),
    Setting("torch.backends.cudnn.benchmark", torch._C._get_cudnn_benchmark, torch._C._set_cudnn_benchmark),
    Setting("torch.backends.cudnn.deterministic", torch._C._get_cudnn_deterministic, torch._C._set_cudnn_deterministic),
    Setting("torch.backends.cudnn.allow_tf32", *_flag(torch.backends.cudnn, "allow_tf32")),
    Setting("torch.backends.cuda.matmul.allow_tf32", *_flag(torch.backends.cuda.matmul, "allow_tf32")),
    Setting("numpy's handling of errors", np.geterr, lambda kept: np.seterr(**kept)),
    Setting("the working folder", os.getcwd, os.chdir),
    Setting("the environment's variables", _read_environment, _put_environment),
)


def read_settings() -> list[Any]:
    """The present values of all settings."""
    return [setting.value() for setting in SETTINGS]


def find_changes(before: list[Any]) -> list[str]:
    """The names of the settings that have other values now."""
    return [setting.name for setting, value in zip(SETTINGS, before, strict=True) if setting.value() != value]


def put_settings(before: list[Any]) -> list[str]:
    """Give all settings the values that were read before. Returns the names of those that had others, and lack them."""
    for setting, value in zip(SETTINGS, before, strict=True):
        if setting.value() != value:
            setting.put(value)
    return find_changes(before)
