"""What the suite glue costs at its real size: bytes and seconds of every stage, with random weights from a local Hub.

    python benchmarks/glue_from_hub.py [--cores 2] [--folder DIR]

Serves a base and eight experts in RoBERTa-base's shapes (125 M parameters), and 40 short train rows a task, in the
layout of the repositories that config/suites/glue.yaml names; runs that suite unchanged in a folder of its own; and
prints, by rule, the jobs, their seconds and their peak memory as Snakemake measured them, and the megabytes on disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.fake_hub import FakeHub, with_hub  # noqa: E402
from tests.glue_hub import add_glue  # noqa: E402

SIZES = {"vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
         "intermediate_size": 3072, "max_position_embeddings": 514}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default="2")
    parser.add_argument("--folder", type=Path, help="where to work: about 25 GB (a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        root = Path(name)
        hub = FakeHub()
        add_glue(hub, root / "hub", SIZES)
        run = root / "run"
        run.mkdir()
        for part in ("workflow", "config", "profiles", "Snakefile", "environment.yml"):
            (shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy)(REPOSITORY / part, run / part)
        with hub.running():
            command = [sys.executable, "-m", "snakemake", "--cores", arguments.cores, "results/tables/glue.csv"]
            variables = {**os.environ, **with_hub(hub, root / "home")}
            subprocess.run(command, cwd=run, env=variables, check=True, stdout=subprocess.DEVNULL)
        print(seconds(run / "results/glue/benchmarks").to_string())
        print(sizes(run / "results/glue", root / "home").to_string())


def seconds(benchmarks: Path) -> pd.DataFrame:
    """Jobs, seconds and peak memory by rule."""
    rows = [
        {"rule": file.relative_to(benchmarks).parts[0].removesuffix(".tsv"), **pd.read_csv(file, sep="\t").iloc[0]}
        for file in sorted(benchmarks.rglob("*.tsv"))
    ]
    found = pd.DataFrame(rows).groupby("rule", sort=False)
    return pd.DataFrame(
        {
            "jobs": found.size(),
            "seconds in sum": found["s"].sum().round(1),
            "longest": found["s"].max().round(1),
            "peak memory, MB": found["max_rss"].max().round(0),
        }
    )


def sizes(results: Path, home: Path) -> pd.Series:
    """Megabytes on disk, by folder."""
    folders = {path.name: path for path in sorted(results.iterdir()) if path.is_dir()}
    found = {name: megabytes(path) for name, path in {**folders, "Hub cache": home}.items()}
    return pd.Series(found, name="MB")


def megabytes(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return round(sum(path.stat().st_size for path in files) / 1e6)


if __name__ == "__main__":
    main()
