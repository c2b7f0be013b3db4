"""Whether everything works on a device whose tensors do not mix with those of the CPU, for machines without a GPU.

python benchmarks/stand_in.py [TEXT]...

The device's tensors are computed on the CPU. Like a GPU, it takes scalars, indices and copies from the CPU, and gives
no numpy array; an operation on tensors of both devices is an error. Runs every contract of every component there, or
those whose name holds a TEXT, prints each problem, and ends with 1 if there was one. Then trains a network and attacks
it on both devices, and prints by how much the numbers differ. Everything takes an hour of one core.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from bench.api.results import Results
from bench.api.running import as_lists, compute
from bench.engine import installed, list_cells, open_store, select
from bench.testing import checks, on_device

NAME = "stand_in"
KINDS = ("model", "schedule", "metric", "explainer", "attack", "dataset", "defense")
RUN = {
    "dataset": "shapes",
    "model": "lenet",
    "schedule": "quick:epochs=1,batch=16,limit=16",
    "defense": "l2_cosd",
    "explainer": "gradient",
    "attack": "topk:k=5,steps=2",
    "metric": ["accuracy", "kept_rate", "spearman"],
    "samples": 4,
}
TAKE_BOTH = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}
MAKERS = {torch.tensor, torch.as_tensor, torch.asarray}


class Backend(backend_registration._DummyBackendModule):  # type: ignore[misc]
    """What torch asks of a device: its random state, which nobody draws from."""

    generator = torch.Generator()

    def get_rng_state(self, device: Any = 0) -> Tensor:
        return self.generator.get_state()

    def set_rng_state(self, state: Tensor, device: Any = 0) -> None:
        self.generator.set_state(state)

    def current_device(self) -> int:
        return 0


class Placed(Tensor):
    """A tensor of the device, around one of the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Placed:
        shape = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        placed = Tensor._make_wrapper_subclass(cls, inner.size(), device=torch.device(NAME, 0), **shape)
        placed.inner = inner
        return placed

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Placed({self.inner})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return Placed(self.inner.clone()).requires_grad_(self.requires_grad)

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operate(func, args, kwargs or {})


def operate(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do one operation on the CPU, and place what it gives where its arguments are, or where it is asked to."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    placed = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, Placed)}
    name = func.overloadpacket.__name__
    if placed and name not in TAKE_BOTH and any(not isinstance(t, Placed) and t.dim() for t in tensors):
        raise RuntimeError(f"{func}: tensors on two devices, {NAME} and cpu")
    device = kwargs.get("device")
    is_placed = bool(placed) if device is None else torch.device(device).type == NAME
    given = {**kwargs, "device": torch.device("cpu")} if device is not None and is_placed else kwargs
    result = func(*tree_map(_inner, args), **tree_map(_inner, given))

    def place(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return placed[id(value)] if id(value) in placed else Placed(value)

    return tree_map(place, result) if is_placed else result


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Placed) else value


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operate(func, args, kwargs or {})


class _Makers(TorchFunctionMode):
    """Calls that do not reach the operations: tensors made of numbers, and indices that are no tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in MAKERS and "device" in kwargs and not isinstance(args[0], Tensor):
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func is Tensor.new_tensor and isinstance(args[0], Placed):
            return torch.tensor(args[1], **{"dtype": args[0].dtype, **kwargs}).to(args[0].device)
        if func is Tensor.__getitem__:
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (args[0], tuple(torch.as_tensor(p) if isinstance(p, list | np.ndarray) else p for p in places))
        return func(*args, **kwargs)


@contextlib.contextmanager
def stand_in() -> Iterator[torch.device]:
    """Inside, the device exists. It must be the first thing that torch computes on in its process."""
    # As backend_registration does it, but for the methods that it gives to tensors.
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, Backend())
    torch._C._acc.register_python_privateuseone_hook(backend_registration._DummyPrivateUse1Hook())
    torch._C._acc.register_python_privateuseone_device_guard(backend_registration._DummyDeviceGuard())
    torch.__future__.set_swap_module_params_on_conversion(True)
    with _Makers(), _Operations():
        yield torch.device(NAME, 0)


def find_problems(device: torch.device, texts: list[str]) -> Iterator[tuple[str, str]]:
    """The name of each contract, and its problem; "" where there is none."""
    for kind in KINDS:
        for check in checks(kind):
            if not texts or any(text in str(check) for text in texts):
                with on_device(str(device)):
                    yield str(check), check.failure() or ""


def run(device: torch.device) -> Results:
    catalog = installed()
    selection = select(catalog, as_lists(RUN), False)
    with tempfile.TemporaryDirectory() as folder:
        return compute(list_cells(catalog, selection.cases, selection.metrics), open_store(folder, print), device)


def main() -> None:
    count, problems = 0, 0
    with stand_in() as device:
        for name, problem in find_problems(device, sys.argv[1:]):
            count, problems = count + 1, problems + bool(problem)
            if problem:
                print(f"{name}: {' '.join(problem.split())[:300]}", flush=True)
        if not count:
            sys.exit(f"stand_in.py: no contract's name holds {' or '.join(sys.argv[1:])}")
        print(f"{count} contracts, {problems} with a problem")
        there = run(device)
    for here, other in zip(run(torch.device("cpu")), there, strict=True):
        print(f"{here.metric}: {here.value:.6f} on the CPU, {other.value:.6f} on the device")
    sys.exit(problems > 0)


if __name__ == "__main__":
    main()
