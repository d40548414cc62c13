"""The optimiser divided among ranks by FSDP2: each keeps its part of the weights and moments, and moves that part alone.

A rank then holds, of training state in units of the weights' size, 2 + 3 / ranks where it held 4: all weights and their gradient
during a step, its part of weights and moments always. What FSDP2 is not asked for is to gather weights layer by layer: rollouts
read every layer once a level, so all are gathered after an update, once, and let go before the next one. The gradient is summed
in the order of ranks as ever (`trainers.step`), and AdamW knows no neighbours: so weights, moments and files are those of a learner that
divides nothing, to the last bit, and the two may take over from each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from trainers.optimiser import Optimiser
from trainers.ranks import Ranks, answering
from trainers.settings import LearnerSettings

MOMENTS = ("exp_avg", "exp_avg_sq")
#: AdamW's kernel computes so many numbers at once, and what is left over one by one, which rounds differently: a matrix is cut
#: between rows that are multiples of it. What has no such rows, biases and norms, every rank keeps and moves as a whole.
VECTOR = 16


class ShardedOptimiser(Optimiser):
    """As `Optimiser`. Between two calls of it all weights are there, on every rank. All ranks make each call, or none."""

    def __init__(self, module: nn.Module, settings: LearnerSettings, ranks: Ranks) -> None:
        """Divide the module's parameters among all ranks.

        Raises:
            Unavailable: another rank has ended, or does not answer in time.
        """
        kept = {parameter for parameter in module.parameters() if not _divisible(parameter)}
        with answering():
            self._mesh = init_device_mesh("cpu", (ranks.size,))
            self._units = [_divided(part, self._mesh, kept) for part in (*_blocks(module), module)]
            #: What this rank moves: of every parameter its part, in the memory that FSDP2 gathers from.
            self.own = [nn.Parameter(p.to_local()) if isinstance(p, DTensor) else p for p in module.parameters()]
            self._shared = [isinstance(p, DTensor) for p in module.parameters()]
            super().__init__(module, settings)
            self._gather()

    def _moved(self) -> list[nn.Parameter]:
        return self.own

    def _gather(self) -> None:
        with answering():
            for unit in self._units:
                unit.unshard()

    def _let_go(self) -> None:
        for unit in self._units:
            unit.reshard()

    def _step(self) -> None:
        wholes = list(self.module.parameters())
        for at, whole in enumerate(wholes):
            if whole.grad is not None and self._shared[at]:
                # One by one: the part of a gradient takes the place of the whole.
                self.own[at].grad, whole.grad = self._part(at, whole.grad).clone(), None
        self._let_go()
        super()._step()
        for own in self.own:
            own.grad = None
        self._gather()

    def _part(self, at: int, whole: Tensor) -> Tensor:
        """This rank's part of what every rank has of a parameter."""
        if not self._shared[at]:
            return whole
        return distribute_tensor(whole, self._mesh, [Shard(0)], src_data_rank=None).to_local()

    def _whole(self, at: int, part: Tensor, like: nn.Parameter) -> Tensor:
        """What all ranks have of a parameter together, on each."""
        if not self._shared[at]:
            return part
        shape, stride = like.shape, like.stride()
        with answering():
            divided = DTensor.from_local(part, self._mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)
            return divided.full_tensor().clone()  # where parts are uneven it is cut from more, which would be saved too

    def _whole_state(self) -> dict[str, Any]:
        state, likes = super()._whole_state(), list(self.module.parameters())
        found = {
            at: {**of, **{name: self._whole(at, of[name], likes[at]) for name in MOMENTS}}
            for at, of in state["state"].items()
        }
        return {**state, "state": found}

    def hand_in(self) -> None:
        """As `Optimiser.hand_in`."""
        self._whole_state()

    def _own_state(self, state: dict[str, Any]) -> dict[str, Any]:
        own = {
            at: {**of, **{name: self._part(at, of[name]).clone() for name in MOMENTS}} for at, of in state["state"].items()
        }
        return {**state, "state": own}

    def _put(self, weights: Sequence[Tensor]) -> None:
        self._let_go()
        for at, (own, given) in enumerate(zip(self.own, weights, strict=True)):
            own.copy_(self._part(at, given.detach()))
        self._gather()


def _divisible(parameter: nn.Parameter) -> bool:
    return parameter.dim() > 1 and parameter[0].numel() % VECTOR == 0


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The layers: gathered one after the other, so that a copy of one is the most that is there twice."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            yield from part


def _divided(module: nn.Module, mesh: Any, kept: set[nn.Parameter]) -> FSDPModule:
    return fully_shard(module, mesh=mesh, reshard_after_forward=False, ignored_params=kept)
