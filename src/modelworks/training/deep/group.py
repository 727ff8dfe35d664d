"""The processes that train one model together: which of them this is, sums over all, and shared batch statistics."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.training.deep.library import load_torch


@dataclass(frozen=True, kw_only=True)
class Group:
    """Processes of one training run; alone it is one process of one.

    Attributes:
        rank: Number of this process.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and reports."""
        return self.rank == 0

    def total(self, tensor: Any) -> Any:
        """Return the sum of a tensor over all processes."""
        if self.size > 1:
            from torch import distributed

            distributed.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Say whether the flag is set in any process."""
        if self.size == 1:
            return flag
        torch = load_torch()
        return bool(self.total(torch.tensor(float(flag), device=self.device)).item() > 0)

    def gathered(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sum arrays in which every process filled its own rows."""
        if self.size == 1:
            return rows
        torch = load_torch()
        return np.asarray(self.total(torch.from_numpy(rows).to(self.device)).cpu().numpy())

    @property
    def device(self) -> str:
        """Where tensors that cross processes live: the device for nccl, else memory."""
        if self.size == 1:
            return "cpu"
        from torch import distributed

        return "cuda" if distributed.get_backend() == "nccl" else "cpu"

    def share(self, network: Any) -> Any:
        """Wrap a network so that gradients are averaged and batch statistics are those of the whole batch."""
        if self.size == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        share_statistics(network)
        return DistributedDataParallel(network, broadcast_buffers=False)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the group that ``torchrun`` describes in the environment: gloo on CPU, nccl on CUDA."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group()
        return
    from torch import distributed

    torch = load_torch()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Group(rank=distributed.get_rank(), size=distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def share_statistics(network: Any) -> None:
    """Let every batch norm of a network normalise by mean and variance over all processes.

    PyTorch's own ``SyncBatchNorm`` works on CUDA only; this one works wherever sums over processes do.
    """
    from torch import nn

    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.forward = _SharedForward(module)


class _SharedForward:
    """The forward pass of one batch norm, with statistics summed over the group."""

    def __init__(self, norm: Any) -> None:
        self.norm = norm

    def __call__(self, values: Any) -> Any:
        torch = load_torch()
        norm = self.norm
        shape = (1, -1) + (1,) * (values.dim() - 2)
        if norm.training:
            from torch.distributed.nn.functional import all_reduce

            axes = [axis for axis in range(values.dim()) if axis != 1]
            count = torch.full((1,), float(values.numel() // values.shape[1]), device=values.device)
            sums = all_reduce(torch.cat([values.sum(axes), values.square().sum(axes), count]))
            channels, total = values.shape[1], sums[-1]
            mean = sums[:channels] / total
            variance = (sums[channels : 2 * channels] / total - mean.square()).clamp_min(0)
            with torch.no_grad():
                unbiased = variance * total / (total - 1).clamp_min(1)
                norm.running_mean.lerp_(mean, norm.momentum)
                norm.running_var.lerp_(unbiased, norm.momentum)
                norm.num_batches_tracked.add_(1)
        else:
            mean, variance = norm.running_mean, norm.running_var
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        return (values - mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)
