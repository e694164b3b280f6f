"""Merging methods in their obvious form: whole state dicts, dense tensors, fp64 wherever order does not count."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from twin_merging.merging.randomness import uniform_numbers

Tensors = Mapping[str, torch.Tensor]
Vectors = Mapping[str, Tensors]  # by task, in alphabetical order: tau, fp32


def flat(vector: Tensors) -> torch.Tensor:
    return torch.cat([vector[name].flatten() for name in vector])


def weight_average(base: Tensors, vectors: Vectors, weights: Mapping[str, float] | None = None) -> Tensors:
    shares = {task: (weights or dict.fromkeys(vectors, 1))[task] for task in vectors}
    total = sum(shares.values())
    return {n: base[n] + sum(shares[t] * vectors[t][n].double() for t in vectors) / total for n in base}


def task_arithmetic(base: Tensors, vectors: Vectors, scaling: float = 0.3) -> Tensors:
    return {n: base[n] + scaling * sum(vectors[t][n].double() for t in vectors) for n in base}


def threshold(magnitudes: torch.Tensor, density: float) -> float:
    """The (n - floor(density n))-th smallest magnitude; 0 when all are kept."""
    kth = magnitudes.numel() - math.floor(density * magnitudes.numel())
    return float(magnitudes.flatten().sort().values[kth - 1]) if kth else 0.0


def ties(
    base: Tensors,
    vectors: Vectors,
    density: float = 0.2,
    scaling: float = 1.0,
    trim: str = "global",
    elect: str = "sum",
    merge: str = "mean",
) -> Tensors:
    trimmed: dict[str, dict[str, torch.Tensor]] = {}
    for task, vector in vectors.items():
        whole = threshold(flat(vector).abs(), density)
        trimmed[task] = {
            n: tau * (tau.abs() >= (whole if trim == "global" else threshold(tau.abs(), density)))
            for n, tau in vector.items()
        }
    return elected(base, trimmed, scaling, elect, merge)


def elected(base: Tensors, vectors: Vectors, scaling: float, elect: str = "sum", merge: str = "mean") -> Tensors:
    stacked = {n: torch.stack([vectors[t][n] for t in vectors]) for n in base}
    votes = {n: (s if elect == "sum" else s.sign()).sum(0) for n, s in stacked.items()}
    majority = torch.stack([v.sign().sum() for v in votes.values()]).sum().sign()
    found = {}
    for n, taus in stacked.items():
        sign = torch.where(votes[n] == 0, majority, votes[n].sign())
        agree = (taus * sign > 0).double()
        total = (taus.double() * agree).sum(0)
        found[n] = base[n] + scaling * (total / agree.sum(0).clamp(min=1) if merge == "mean" else total)
    return found


def dare(
    base: Tensors, vectors: Vectors, drop_rate: float, then: dict[str, Any], keep: str = "keep", seed: int = 0
) -> Tensors:
    dropped: dict[str, dict[str, torch.Tensor]] = {}
    for task, vector in vectors.items():
        dropped[task] = {}
        for n, tau in vector.items():
            numbers = torch.from_numpy(uniform_numbers(seed, task, n, 0, tau.numel()).astype("int64"))
            kept = (numbers >= round(drop_rate * 2**32)).reshape(tau.shape)
            whole = keep == "keep" and tau.dim() < 2
            dropped[task][n] = tau if whole else (tau.double() * kept / (1 - drop_rate)).float()
    options = {key: value for key, value in then.items() if key != "method"}
    return METHODS[then["method"]](base, dropped, **options)


def della(
    base: Tensors, vectors: Vectors, density: float = 0.3, epsilon: float = 0.1, scaling: float = 1.0, seed: int = 0
) -> Tensors:
    dropped: dict[str, dict[str, torch.Tensor]] = {}
    for task, vector in vectors.items():
        dropped[task] = {}
        for n, tau in vector.items():
            rows = tau.reshape(tau.shape[0] if tau.dim() > 1 else 1, -1)
            keep = torch.full(rows.shape, density, dtype=torch.float64)
            for row, values in enumerate(rows):
                own = [density] * len(values)
                for rank, place in enumerate(values.abs().sort(stable=True).indices.tolist()):
                    if len(values) > 1:
                        own[place] = density - epsilon + 2 * epsilon * rank / (len(values) - 1)
                keep[row] = torch.tensor(own, dtype=torch.float64)
            numbers = torch.from_numpy(uniform_numbers(seed, task, n, 0, tau.numel()).astype("float64"))
            kept = numbers.reshape(rows.shape) < (keep * 2**32).round()
            dropped[task][n] = (rows * kept / keep).float().reshape(tau.shape)
    return elected(base, dropped, scaling)


def breadcrumbs(
    base: Tensors,
    vectors: Vectors,
    density: float = 0.14,
    gamma: float = 0.01,
    scaling: float = 0.3,
    elect: str | None = None,
) -> Tensors:
    kept: dict[str, dict[str, torch.Tensor]] = {}
    for task, vector in vectors.items():
        kept[task] = {}
        for n, tau in vector.items():
            ordered = tau.flatten().abs().sort().values
            last = max(1, len(ordered) - int(gamma * len(ordered)))
            first = max(0, last - max(1, int(density * len(ordered))))
            kept[task][n] = tau * ((tau.abs() >= ordered[first]) & (tau.abs() <= ordered[last - 1]))
    return elected(base, kept, scaling, elect) if elect else task_arithmetic(base, kept, scaling)


def model_stock(base: Tensors, vectors: Vectors) -> Tensors:
    found = {}
    for n in base:
        taus = [vectors[t][n].double().flatten() for t in vectors]
        pairs = [(a, b) for i, a in enumerate(taus) for b in taus[i + 1 :]]
        cosine = sum(float(a @ b / (a.norm() * b.norm())) for a, b in pairs) / len(pairs)
        t = len(taus) * cosine / (1 + (len(taus) - 1) * cosine)
        found[n] = base[n] + t * torch.stack(taus).mean(0).reshape(base[n].shape)
    return found


def slerp(base: Tensors, vectors: Vectors, t: float = 0.5, of: str = "weights") -> Tensors:
    found = {}
    for n in base:
        ends = [tau[n].double() + (base[n].double() if of == "weights" else 0) for tau in vectors.values()]
        a, b = (end.flatten() for end in ends)
        cosine = float(a @ b / (a.norm() * b.norm()))
        if abs(cosine) > 0.9995:
            mixed = (1 - t) * a + t * b
        else:
            angle = math.acos(cosine)
            unit = (math.sin((1 - t) * angle) * a / a.norm() + math.sin(t * angle) * b / b.norm()) / math.sin(angle)
            mixed = unit * ((1 - t) * a.norm() + t * b.norm())
        found[n] = mixed.reshape(base[n].shape) + (0 if of == "weights" else base[n])
    return found


def _by_matrix(
    base: Tensors,
    vectors: Vectors,
    scaling: float,
    change: Callable[[list[torch.Tensor]], Any],
    embeddings: bool = True,
) -> Tensors:
    found = {}
    for n in base:
        taus = [vectors[t][n].double() for t in vectors]
        matrix = base[n].dim() == 2 and (embeddings or "embeddings" not in n)
        found[n] = base[n] + scaling * (change(taus) if matrix else sum(taus) / len(taus))
    return found


def tsv_m(base: Tensors, vectors: Vectors, scaling: float = 1.0, count: int | None = None) -> Tensors:
    """count: of how many tasks each keeps its share of the triples (mass: of all, whichever are merged)."""

    def change(taus: list[torch.Tensor]) -> torch.Tensor:
        k = max(1, min(taus[0].shape) // (count or len(taus)))
        triples = [torch.linalg.svd(tau, full_matrices=False) for tau in taus]
        U, V = torch.cat([u[:, :k] for u, _, _ in triples], 1), torch.cat([v[:k] for _, _, v in triples])
        S = torch.cat([s[:k] for _, s, _ in triples])
        sides = []
        for side in (U, V):
            P, _, Q = torch.linalg.svd(side, full_matrices=False)
            sides.append(P @ Q)
        return sides[0] @ torch.diag(S) @ sides[1]

    return _by_matrix(base, vectors, scaling, change)


def iso_c(base: Tensors, vectors: Vectors, scaling: float = 1.0) -> Tensors:
    def change(taus: list[torch.Tensor]) -> torch.Tensor:
        U, S, V = torch.linalg.svd(torch.stack(taus).sum(0), full_matrices=False)
        return S.mean() * U @ V

    return _by_matrix(base, vectors, scaling, change)


def iso_cts(base: Tensors, vectors: Vectors, fraction: float = 0.8, scaling: float = 1.0) -> Tensors:
    def change(taus: list[torch.Tensor]) -> torch.Tensor:
        r = min(taus[0].shape)
        own = min(r // len(taus), round((r - int(fraction * r)) / len(taus)))
        U, S, V = torch.linalg.svd(torch.stack(taus).sum(0), full_matrices=False)
        common = r - len(taus) * own
        lefts, values, rights = [U[:, :common]], [S[:common]], [V[:common]]
        for tau in taus:
            U, S, V = torch.linalg.svd(tau - lefts[0] @ lefts[0].T @ tau, full_matrices=False)
            lefts, values, rights = [*lefts, U[:, :own]], [*values, S[:own]], [*rights, V[:own]]
        sides = []
        for side in (torch.cat(lefts, 1), torch.cat(rights)):
            P, _, Q = torch.linalg.svd(side, full_matrices=False)
            sides.append(P @ Q)
        return torch.cat(values).mean() * sides[0] @ sides[1]

    return _by_matrix(base, vectors, scaling, change)


def fr_merging(base: Tensors, vectors: Vectors, cutoff: float = 0.6, scaling: float = 0.4) -> Tensors:
    found = {}
    for n in base:
        change = torch.zeros(base[n].shape, dtype=torch.float64)
        for task in vectors:
            tau = vectors[task][n].double()
            if tau.dim() == 2:
                height, width = tau.shape
                distance = torch.tensor(
                    [[math.hypot(i - height / 2, j - width / 2) for j in range(width)] for i in range(height)]
                )
                kept = torch.fft.fft2(tau) * (distance <= cutoff * max(height, width))
                tau = torch.fft.ifft2(kept).real
            change += tau
        found[n] = base[n] + scaling * change
    return found


def wudi(
    base: Tensors,
    vectors: Vectors,
    scaling: float = 1.0,
    solver: str = "closed",
    steps: int = 300,
    learning_rate: float = 1e-5,
) -> Tensors:
    def loss(D: torch.Tensor, taus: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([((D - tau) @ tau.T).square().sum() / tau.square().sum() for tau in taus]).sum()

    def change(taus: list[torch.Tensor]) -> torch.Tensor:
        if solver == "adam":
            D = torch.stack(taus).sum(0).requires_grad_(True)
            optimiser = torch.optim.Adam([D], lr=learning_rate)
            for _ in range(steps):
                optimiser.zero_grad()
                loss(D, taus).backward()
                optimiser.step()
            return D.detach()
        # (D - tau) tau' / |tau| = 0 for all tasks, by least squares over the rows of D
        left = torch.cat([tau / tau.norm() for tau in taus])
        right = torch.cat([tau @ tau.T / tau.norm() for tau in taus], 1)
        return (torch.linalg.pinv(left) @ right.T).T

    return _by_matrix(base, vectors, scaling, change, embeddings=False)


def tall_mask(vectors: Vectors, task: str, mask_lambda: float) -> dict[str, torch.Tensor]:
    """In fp32, as what is added up, since a comparison has no tolerance."""
    found = {}
    for n, tau in vectors[task].items():
        total = torch.stack([vectors[t][n] for t in vectors]).sum(0)
        found[n] = tau.abs() >= mask_lambda * (total - tau).abs()
    return found


def consensus(
    base: Tensors,
    vectors: Vectors,
    mask_lambda: float | Mapping[str, float] = 0.4,
    least: int = 2,
    scaling: float = 0.3,
) -> Tensors:
    own = mask_lambda if isinstance(mask_lambda, Mapping) else dict.fromkeys(vectors, mask_lambda)
    masks = {task: tall_mask(vectors, task, own[task]) for task in vectors}
    kept = {n: sum(masks[t][n].int() for t in vectors) >= least for n in base}
    return {n: base[n] + scaling * kept[n] * sum(vectors[t][n].double() for t in vectors) for n in base}


def lines(base: Tensors, vectors: Vectors, alpha: float, beta: float, then: dict[str, Any]) -> Tensors:
    merged = METHODS[then["method"]](base, vectors, **{key: value for key, value in then.items() if key != "method"})
    layers = {n: int(place[1]) for n in base if (place := re.search(r"layer\.(\d+)\.", n))}
    last, found = max(layers.values()), {}
    for n in base:
        depth = 0.0 if n.startswith("embeddings.") else layers[n] / last if n in layers and last else 1.0
        found[n] = base[n] + (alpha + beta * depth) * (merged[n].double() - base[n].double())
    return found


def tsv_c(base: Tensors, vectors: Vectors, task: str, fraction: float) -> Tensors:
    """One task's model."""
    found = {}
    for n, tau in vectors[task].items():
        change = tau.double()
        if tau.dim() == 2:
            k = max(1, int(fraction * min(tau.shape)))
            U, S, V = torch.linalg.svd(change, full_matrices=False)
            change = U[:, :k] @ torch.diag(S[:k]) @ V[:k]
        found[n] = base[n] + change
    return found


def free(shared: Tensors, expert: Tensors, density: float, rescale: float) -> Tensors:
    """One task's model: its expert's parameters beside the shared expert's."""
    found = {}
    for n in expert:
        change = expert[n].double() - shared[n].double()
        if change.dim() == 2:
            for row in change:
                count = max(1, int(density * len(row)))
                least = row.abs().sort(descending=True).values[count - 1]
                row[row.abs() < least] = 0
            change *= rescale
        found[n] = shared[n] + change
    return found


METHODS: dict[str, Callable[..., Tensors]] = {
    "weight_average": weight_average,
    "task_arithmetic": task_arithmetic,
    "ties": ties,
    "dare": dare,
    "della": della,
    "breadcrumbs": breadcrumbs,
    "model_stock": model_stock,
    "slerp": slerp,
    "tsv_m": tsv_m,
    "iso_c": iso_c,
    "iso_cts": iso_cts,
    "wudi": wudi,
    "lines": lines,
    "consensus": consensus,
    "fr_merging": fr_merging,
}
