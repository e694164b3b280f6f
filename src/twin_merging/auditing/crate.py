"""A suite's results as a Workflow Run RO-Crate: what ran, what it read and wrote, and the hashes of both.

Packed are the workflow with its library, the suite, the tables, scores and predictions, the provenance and the audit.
Sources, rows and models are named by their hashes and are not packed: they are large, and have licences of their own.
"""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twin_merging.auditing.results import PROVENANCE, Results, check_verdict
from twin_merging.errors import UserError
from twin_merging.io.files import read_json, sha256, whole_file
from twin_merging.suite.locks import lock_file

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

VERSION = "1.1"  # of RO-Crate, which the profiles below extend
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
MAIN = "workflow/Snakefile"
WORKFLOW = ("Snakefile", "workflow", "profiles", "config/config.yaml", "environment.yml", "environment-lm-eval.yml",
            "requirements.lock", "requirements-lm-eval.lock", "pyproject.toml", "LICENSE")  # fmt: skip
FORMATS = {".csv": "text/csv", ".md": "text/markdown", ".json": "application/json", ".html": "text/html",
           ".parquet": "application/vnd.apache.parquet", ".yaml": "application/yaml", ".yml": "application/yaml",
           ".tex": "application/x-tex", ".py": "text/x-python", ".toml": "application/toml"}  # fmt: skip
TEXT = (".smk", ".rst", ".lock", ".jsonl", ".typed", "")
DAY_ONE = (1980, 1, 1, 0, 0, 0)  # a zip's first: the same content gives the same bytes


def write_crate(results: Results, workflow: Path, suite: Path, output: Path) -> None:
    """Write the crate of a suite that has passed its audit as a zip.

    workflow: the folder of the repository; suite: the suite's file. The same inputs give the same bytes.
    """
    from rocrate.model import ContextEntity
    from rocrate.rocrate import ROCrate

    if not results.jobs:
        raise UserError(f"{results.of_suite(PROVENANCE)}: holds no jobs; make the tables again, with records")
    check_verdict(read_json(results.folder / "audit" / f"{results.suite}.json"), f"results/audit/{results.suite}.html")
    crate = ROCrate(version=VERSION)
    crate.metadata.extra_terms.update(TERMS)
    packed: dict[str, Path] = {}
    _describe(crate, results)
    main = _workflow(crate, packed, results, workflow)
    suites = [_pack(crate, packed, f"config/suites/{results.suite}.yaml", suite)]
    if (lock := lock_file(suite)).is_file():
        suites.append(_pack(crate, packed, f"config/suites/{lock.name}", lock))
    sources, made = _sources(crate, results), _made(crate, packed, results)
    tables = [entity for entity in made if entity.id == f"results/tables/{results.suite}.csv"]
    main["input"] = [_parameter(crate, "suite", "The suite: base, tasks, experts and methods", suites[:1])]
    if sources:
        main.append_to("input", _parameter(crate, "source", "A file of a base, an expert or a task's rows", sources))
    main["output"] = _parameter(crate, "table", "Normalised scores of the suite's models", tables)
    action = crate.add_action(main, "#run", object=suites + sources, result=made, properties=_action(results))
    crate.root_dataset.append_to("mentions", action)
    for identifier, (name, version) in PROFILES.items():
        profile = ContextEntity(crate, identifier, {"@type": "CreativeWork", "name": name, "version": version})
        crate.root_dataset.append_to("conformsTo", crate.add(profile))
    _write(crate, packed, output)


def _workflow(crate: ROCrate, packed: dict[str, Path], results: Results, folder: Path) -> Any:
    """The main Snakefile, all that it includes, the library, and the versions of what ran it."""
    if not (folder / MAIN).is_file():
        raise UserError(f"{folder}: holds no {MAIN}; make the crate with a copy of the workflow on this machine")
    versions = results.provenance["environments"][0]["software"]
    packed[MAIN] = folder / MAIN
    main = crate.add_workflow(
        folder / MAIN, MAIN, main=True, lang="snakemake", lang_version=versions["snakemake"],
        properties={"name": "Twin-Merging workflow", "version": versions["twin-merging"],
                    "conformsTo": {"@id": BIOSCHEMAS}, "encodingFormat": "text/plain"},
    )  # fmt: skip
    for name, path in _workflow_files(folder):
        _pack(crate, packed, name, path)
    if (readme := folder / "README.md").is_file():
        _pack(crate, packed, readme.name, readme, about=crate.root_dataset)
    main["softwareRequirements"] = _software(crate, results)
    return main


def _describe(crate: ROCrate, results: Results) -> None:
    from rocrate.model import ContextEntity

    report = read_json(results.folder / "audit" / f"{results.suite}.json")
    last = max(job["finished"] for job in results.jobs.values())
    licence = {"@type": "CreativeWork", "name": "MIT License", "url": "https://spdx.org/licenses/MIT"}
    crate.name = f"{results.content['title']}: merged models and their scores"
    crate.description = (
        f"Suite {results.suite} of the Twin-Merging workflow: tables, scores and predictions of "
        f"{len(results.models)} models on {len(results.content['tasks'])} tasks, with their provenance. Audit: "
        f"{report['verdict']}. Sources, rows and models are named by their SHA-256 and not packed; those that were "
        "fetched keep licences of their own."
    )
    crate.datePublished = f"{last[:19]}+00:00"
    crate.license = crate.add(ContextEntity(crate, "https://spdx.org/licenses/MIT", licence))


def _workflow_files(workflow: Path) -> Iterator[tuple[str, Path]]:
    """The workflow's files but the main Snakefile, and its library, by the paths that a clone has."""
    places = [(name, workflow / name) for name in WORKFLOW]
    places.append(("src/twin_merging", Path(__file__).parents[1]))
    for name, place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            packed = f"{name}/{path.relative_to(place).as_posix()}" if place.is_dir() else name
            if path.is_file() and path.suffix != ".pyc" and packed != MAIN:
                yield packed, path


def _pack(crate: ROCrate, packed: dict[str, Path], name: str, path: Path, **properties: Any) -> Any:
    packed[name] = path
    return crate.add_file(path, name, properties={
        "name": name, "contentSize": str(path.stat().st_size), "sha256": sha256(path),
        "encodingFormat": _format(name), **properties,
    })  # fmt: skip


def _format(name: str) -> str:
    suffix = Path(name).suffix
    return FORMATS.get(suffix, "text/plain" if suffix in TEXT else "application/octet-stream")


def _named(crate: ROCrate, digest: str, size: int | None, name: str, url: str | None = None) -> Any:
    """A file that is not packed: by its address where it has one, else by its hash (RFC 6920)."""
    coded = base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")
    identifier = url or f"ni:///sha-256;{coded}"
    if (known := crate.get(identifier)) is not None:
        known.append_to("alternateName", name)
        return known
    counted = {} if size is None else {"contentSize": str(size)}
    return crate.add_file(identifier, properties={
        "name": name, "sha256": digest, "encodingFormat": _format(name), **counted,
    })  # fmt: skip


def _parameter(crate: ROCrate, name: str, description: str, examples: list[Any]) -> Any:
    """An input or output of the workflow, and the files that were given or made for it."""
    parameter = crate.add_formal_parameter(
        name, "File", f"#parameter-{name}", description, properties={"workExample": examples}
    )
    for example in examples:
        example["exampleOfWork"] = parameter
    return parameter


def _software(crate: ROCrate, results: Results) -> list[Any]:
    from rocrate.model import SoftwareApplication

    found = {}
    for environment in results.provenance["environments"]:
        for package, version in environment["software"].items():
            if version is not None and package != "python":
                url = f"https://pypi.org/project/{package}/{version.partition('+')[0]}/"
                found[url] = {"name": package, "version": version, "url": url}
    return [crate.add(SoftwareApplication(crate, url, properties)) for url, properties in found.items()]


def _sources(crate: ROCrate, results: Results) -> list[Any]:
    """Every file that was fetched."""
    found: dict[str, Any] = {}
    for place, source in results.provenance["sources"].items():
        for name, file in source.get("files", {}).items():
            url = _address(source, name) if source["kind"] == "hub" else None
            entity = _named(crate, file["sha256"], file.get("size"), f"{place}: {name}", url)
            found[entity.id] = entity
    return list(found.values())


def _address(source: Mapping[str, Any], name: str) -> str:
    hub = source["source"]["hub"]
    within = f"{hub['subfolder'].strip('/')}/" if hub.get("subfolder") and "/" not in name else ""
    kind = "datasets/" if "splits" in source["source"] else ""
    return f"https://huggingface.co/{kind}{hub['repo']}/resolve/{source['revision']}/{quote(within + name)}"


def _made(crate: ROCrate, packed: dict[str, Path], results: Results) -> list[Any]:
    """What the run gave: tables, scores, predictions, provenance and audit packed, merged models by their hashes."""
    found: dict[str, Any] = {}
    models = results.of_suite("models")
    whole = (*map(results.of_suite, ("predictions", "scores.csv", "intervals.csv", "lm_eval")), "results/tables")
    for name, job in results.makers.items():
        if name.startswith(whole):
            entity = _pack(crate, packed, name, results.path(name))
        elif name.startswith(models):
            entity = _named(crate, job["outputs"][name]["sha256"], job["outputs"][name]["size"], name)
        else:
            continue
        found[entity.id] = entity
    reports = [f"results/audit/{results.suite}.{suffix}" for suffix in ("json", "html")]
    for name in (results.of_suite("provenance.json"), *reports):
        found[name] = _pack(crate, packed, name, results.path(name))
    return list(found.values())


def _action(results: Results) -> dict[str, Any]:
    jobs = results.jobs.values()
    return {
        "name": f"Run of suite {results.suite}",
        "description": f"{len(jobs)} jobs; each with its inputs, outputs, settings and software in provenance.json",
        "startTime": f"{min(job['started'] for job in jobs)[:19]}+00:00",
        "endTime": f"{max(job['finished'] for job in jobs)[:19]}+00:00",
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }


def _write(crate: ROCrate, packed: Mapping[str, Path], output: Path) -> None:
    described: dict[str, Any] = crate.metadata.generate()
    described["@graph"] = [{key: _alone(value) for key, value in entity.items()} for entity in described["@graph"]]
    metadata = json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False)
    contents = {crate.metadata.id: metadata.encode()} | {name: packed[name].read_bytes() for name in sorted(packed)}
    with whole_file(output) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, DAY_ONE)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def _alone(value: Any) -> Any:
    """A list of one as its element, which is how RO-Crate wants it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
