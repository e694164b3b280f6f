"""Jobs that compute nothing: for tests of what Snakemake plans and runs, which do not ask what is in a file.

`with_placeholders` changes the copy of the library in a working folder. The function that runs a rule's script then
writes each declared output in a few milliseconds, and imports neither torch nor anything else that the job would need.
An output's content is a hash of the job's settings and inputs, so it changes when they do, and only then. Jobs of the
rule that the environment variable FAILING_RULE names fail.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

RUN = "src/twin_merging/jobs/run.py"


def with_placeholders(folder: Path) -> Path:
    """Let the jobs of a working folder, which has a copy of the library, write placeholders."""
    with open(folder / RUN, "a") as stream:
        stream.write(f"\n\n{inspect.getsource(write_placeholders)}\n\nrun_job = write_placeholders\n")
    return folder


def write_placeholders(snakemake: Any, job: Any) -> None:
    """Stands in the place of `run_job`. Its source is copied into the library, so it imports what it needs itself."""
    import hashlib
    import json
    import os
    from pathlib import Path

    if snakemake.rule == os.environ.get("FAILING_RULE"):
        raise SystemExit(1)

    def content(path: Path) -> list[str]:
        files = sorted(path.rglob("[!.]*")) if path.is_dir() else [path]
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]

    read = {str(path): content(Path(path)) for path in snakemake.input}
    text = json.dumps([snakemake.rule, dict(snakemake.wildcards), snakemake.params.get("settings"), read], default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    for name in snakemake.output:
        folder = Path(name).suffix == ""  # every file that a rule declares has a suffix, and no folder has one
        file = Path(name, "placeholder") if folder else Path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}: {digest}\n")
