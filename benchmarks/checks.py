"""What the checks of a merge's inputs cost: two checkouts merge the same models, in turn, each in a process of its own.

    python benchmarks/checks.py FOLDER OLD/src NEW/src --pairs 5

FOLDER gets the encoder of the merging benchmark (a base and 8 experts with its language-model head, 4.5 GB), and 8
sequence classifiers of the same bodies (4 GB). `alike`: the first experts; `heads`: the second, of which transformers
is asked what their heads are; `heads, imported`: the same, after transformers was imported. Times are of `merge()`
without hashes; a ratio is the median over pairs of new / old.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import synthetic
import torch
from safetensors.torch import load_file, save_file

KINDS = {"alike": ("encoder", ""), "heads": ("classifiers", ""), "heads, imported": ("classifiers", "import")}
METHODS = {"task_arithmetic": {"scaling": 0.3}, "ties": {"density": 0.2}}
RUN = """
import json, sys, time
from twin_merging import merge
experts, base, output, method, options, imports = json.loads(sys.argv[1])
if imports:
    import transformers.models.roberta.modeling_roberta
began = time.perf_counter()
merge(method, base=base, experts=experts, output=output, record_hashes=False, **options)
print(time.perf_counter() - began)
"""


def make_classifiers(folder: Path) -> None:
    """The encoder's experts with a classifier's head in place of the language model's, where they are missing."""
    for name, directory in synthetic.directories("encoder", folder)[1].items():
        output = folder / "classifiers" / name
        if (output / "config.json").is_file():
            continue
        output.mkdir(parents=True, exist_ok=True)
        tensors = {n: t for n, t in load_file(directory / "model.safetensors").items() if not n.startswith("lm_head.")}
        for part, rows in (("dense", 768), ("out_proj", 2)):
            tensors[f"classifier.{part}.weight"] = torch.ones(rows, 768)
            tensors[f"classifier.{part}.bias"] = torch.ones(rows)
        save_file(tensors, output / "model.safetensors", {"format": "pt"})
        config = json.loads((directory / "config.json").read_text())
        config["architectures"] = ["RobertaForSequenceClassification"]
        (output / "config.json").write_text(json.dumps(config))


def seconds(source: Path, folder: Path, kind: str, method: str) -> float:
    """Seconds of one merge by a checkout, in a process of its own."""
    experts, imports = KINDS[kind]
    base, named = synthetic.directories("encoder", folder)
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    places = {name: str(folder / experts / name) for name in named}
    given = json.dumps([places, str(base), str(output), method, METHODS[method], imports])
    environment = {**os.environ, "PYTHONPATH": str(source.resolve())}
    call = [sys.executable, "-W", "ignore", "-c", RUN, given]
    return float(subprocess.run(call, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    synthetic.make("encoder", arguments.folder)
    make_classifiers(arguments.folder)
    print("| experts | method | old, s | new, s | new / old |\n|---|---|---:|---:|---:|")
    for kind in KINDS:
        for method in METHODS:
            pairs = [
                (seconds(arguments.old, arguments.folder, kind, method),
                 seconds(arguments.new, arguments.folder, kind, method))
                for _ in range(arguments.pairs)
            ]  # fmt: skip
            old, new = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = statistics.median(after / before for before, after in pairs)
            print(f"| {kind} | {method} | {old:.2f} | {new:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
