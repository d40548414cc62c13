"""RQ-VAE (TIGER, arXiv 2305.05065): residual quantisation in a learned space, as a baseline for our identifiers.

It differs from the paper in that the codebooks start from k-means of the first encodings and codes that nothing uses are
set to encodings of the batch; both are common remedies against codebooks that collapse. Letters: B batch, D width,
H hidden width, K one level's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from trainers.identifiers.baselines import Coded, FloatArray, sample_rows
from trainers.identifiers.kmeans import fit_kmeans, one_thread
from trainers.identifiers.points import Points, blocks, rows_of
from trainers.identifiers.settings import IdentifierSettings


class RqVaeSettings(BaseModel):
    """How the baseline is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: tuple[int, ...] = Field(
        default=(256, 128), description="widths of the encoder's layers, mirrored in the decoder"
    )
    latent: int = Field(default=64, ge=2, le=4096, description="width of the space that is quantised")
    steps: int = Field(default=4_000, ge=1, le=10_000_000, description="updates")
    batch: int = Field(default=512, ge=2, le=1_000_000, description="embeddings of an update")
    rate: float = Field(default=1e-3, gt=0, le=1, description="learning rate of AdamW, falling to 0 by a cosine")
    commitment: float = Field(default=0.25, ge=0, le=10, description="weight that keeps encodings near their codes")
    revive: int = Field(default=100, ge=1, le=10_000_000, description="updates after which an unused code is set anew")


class RqVae(nn.Module):
    """Encoder, L codebooks, decoder."""

    def __init__(self, width: int, sizes: Sequence[int], settings: RqVaeSettings) -> None:
        super().__init__()
        self.encoder = _layers([width, *settings.hidden, settings.latent])
        self.decoder = _layers([settings.latent, *reversed(settings.hidden), width])
        self.codebooks = nn.ParameterList(nn.Parameter(torch.zeros(size, settings.latent)) for size in sizes)

    def quantise(self, latent_BH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes [B, L], the sum of their entries [B, H], and the sum over levels of (codebook, commitment) losses [2]."""
        left_BH, total_BH = latent_BH, torch.zeros_like(latent_BH)
        codes, losses = [], torch.zeros(2)
        for entries_KH in self.codebooks:
            code_B = torch.cdist(left_BH.detach(), entries_KH.detach()).argmin(dim=1)
            entry_BH = entries_KH[code_B]
            near, commit = (left_BH.detach() - entry_BH) ** 2, (left_BH - entry_BH.detach()) ** 2
            losses = losses + torch.stack([near.sum(dim=1).mean(), commit.sum(dim=1).mean()])
            codes.append(code_B)
            total_BH = total_BH + entry_BH
            left_BH = left_BH - entry_BH.detach()
        return torch.stack(codes, dim=1), total_BH, losses

    def loss(self, emb_BD: Tensor, commitment: float) -> tuple[Tensor, Tensor]:
        """Reconstruction plus codebook plus commitment, straight through the quantiser; and the codes [B, L]."""
        latent_BH = self.encoder(emb_BD)
        codes_BL, total_BH, losses = self.quantise(latent_BH)
        through_BH = latent_BH + (total_BH - latent_BH).detach()
        rebuilt = ((self.decoder(through_BH) - emb_BD) ** 2).sum(dim=1).mean()
        return rebuilt + losses[0] + commitment * losses[1], codes_BL


def rq_vae(
    items: Points, queries: Points, sizes: tuple[int, ...], settings: IdentifierSettings, seed: int,
    how: RqVaeSettings | None = None, progress: Callable[[int, int], None] = lambda done, total: None,
) -> Coded:  # fmt: skip
    """Train on items and queries together, then give both their codes. Same seed, same codes: it takes one thread,
    as more of them wait for each other at every small product, and sum in another order.

    ``progress`` is told (updates done, updates).
    """
    how = how or RqVaeSettings()
    points_ND = np.concatenate([rows_of(items, slice(None)), rows_of(queries, slice(None))])
    train = torch.from_numpy(points_ND[sample_rows(len(points_ND), settings, seed)])
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        model = RqVae(train.shape[1], sizes, how)
        _start(model, train, settings, seed)
        _train(model, train, how, progress)
        model.eval()
        codes, errors = [], []
        with torch.no_grad():
            for at in blocks(len(points_ND)):
                block = torch.from_numpy(points_ND[at])
                codes_BL, total_BH, _ = model.quantise(model.encoder(block))
                codes.append(codes_BL.numpy().astype(np.int32))
                errors.append(((model.decoder(total_BH) - block) ** 2).sum(dim=1).numpy())
    codes_NL, count = np.concatenate(codes), items.shape[0]
    return Coded(codes_NL[:count], codes_NL[count:], sizes, float(np.concatenate(errors)[:count].mean()))


def _start(model: RqVae, train: Tensor, settings: IdentifierSettings, seed: int) -> None:
    """Codebooks from residual k-means of what the untrained encoder gives."""
    some = torch.randperm(len(train))[: 64 * max(len(entries) for entries in model.codebooks)]
    with torch.no_grad():
        left: FloatArray = model.encoder(train[some]).numpy()
        for level, entries_KH in enumerate(model.codebooks):
            found_KH = fit_kmeans(left, len(entries_KH), settings.iterations, seed + level)
            entries_KH[: len(found_KH)] = torch.from_numpy(found_KH)
            code_B = torch.cdist(torch.from_numpy(left), entries_KH).argmin(dim=1)
            left = left - entries_KH[code_B].numpy()


def _train(model: RqVae, train: Tensor, how: RqVaeSettings, progress: Callable[[int, int], None]) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=how.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, how.steps)
    used = [torch.zeros(len(entries), dtype=torch.bool) for entries in model.codebooks]
    for step in range(how.steps):
        batch_BD = train[torch.randint(len(train), (how.batch,))]
        loss, codes_BL = model.loss(batch_BD, how.commitment)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        for level, mask in enumerate(used):
            mask[codes_BL[:, level]] = True
        if (step + 1) % how.revive == 0:
            if step + 1 < how.steps * 3 // 4:
                _revive(model, batch_BD, used)
            for mask in used:
                mask.zero_()
            progress(step + 1, how.steps)


def _revive(model: RqVae, batch_BD: Tensor, used: Sequence[Tensor]) -> None:
    """Codes that nothing used since the last time become what is left of random members of the batch."""
    with torch.no_grad():
        left_BH = model.encoder(batch_BD)
        for entries_KH, mask in zip(model.codebooks, used, strict=True):
            idle = torch.nonzero(~mask).flatten()
            entries_KH[idle] = left_BH[torch.randint(len(left_BH), (len(idle),))]
            left_BH = left_BH - entries_KH[torch.cdist(left_BH, entries_KH).argmin(dim=1)]


def _layers(widths: Sequence[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts[:-1])
