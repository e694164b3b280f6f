"""Where a job ran: versions of software, hardware, and the commit of the workflow."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

# The packages whose versions can change a number or a byte, and Snakemake.
PACKAGES = (
    "twin-merging", "snakemake", "torch", "transformers", "tokenizers", "safetensors", "peft", "accelerate", "datasets",
    "evaluate", "lm_eval", "huggingface_hub", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn",
    "matplotlib", "contourpy", "pillow",
)  # fmt: skip
COMMIT = "TWIN_MERGING_COMMIT"  # environment variable: what twin_merging.jobs.sent says of the commit
# Those of them that only fetch, plan or ask: none of what is computed depends on them.
_NOT_COMPUTING = ("snakemake", "datasets", "evaluate", "lm_eval", "huggingface_hub")
GPUS = Path("/proc/driver/nvidia/gpus")  # where the driver has a folder for each GPU
# Environment variables by which libraries choose how they compute.
_CHOOSING = (
    "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE",
    "OPENBLAS_CORETYPE", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip


@cache
def software() -> dict[str, str | None]:
    """Version of Python and of every package in PACKAGES, None for one that is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # which takes longer than all else that a script needs

    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def computing_software() -> dict[str, str | None]:
    """Version of Python and of every package that can change a byte of what is computed."""
    return {name: found for name, found in software().items() if name not in _NOT_COMPUTING}


def rounding(devices: int | None = None) -> dict[str, Any]:
    """What the last bits of sums and products depend on beside software: kind of processor and of GPUs, and environment
    variables. Needs no library that computes.

    devices: how many GPUs a job is given, where they are handed out (`jobs.devices`). Then it does not matter which of
    the same kind they are, and to a job that is given none, none.
    """
    files = sorted(GPUS.glob("*/information"))
    lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
    gpus = [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    variables = {name: os.environ[name] for name in _CHOOSING if name in os.environ}
    if devices is not None:
        variables.pop("CUDA_VISIBLE_DEVICES", None)
        kinds = [*dict.fromkeys(gpus)]
        gpus = [*gpus, f"{devices} of them"] if devices and len(kinds) > 1 else kinds * devices
    return {"machine": platform.machine(), "processor": _processor(), "gpus": gpus, "variables": variables}


def hardware() -> dict[str, Any]:
    """System, processor, cores, memory in bytes, and the GPUs that a job which has loaded torch can see."""
    torch: Any = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else [],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit(folder: Path) -> dict[str, Any]:
    """Commit of the repository that a folder lies in, whether its tree was clean (untracked files count), and what had
    changed; all None where there is no repository or no git. On a machine that was sent the workflow: what was sent."""
    if COMMIT in os.environ:
        return dict(json.loads(os.environ[COMMIT]))
    try:
        head = _git(folder, "rev-parse", "HEAD").strip()
        changes = _git(folder, "status", "--porcelain").splitlines()
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "clean": None, "changed": None}
    return {"commit": head, "clean": not changes, "changed": [line[3:] for line in changes[:20]]}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
