"""Private names of other libraries: the code uses those that docs/private-apis.md lists, and they are still there."""

from __future__ import annotations

import ast
import ctypes
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from snakemake.persistence import PersistenceBase
from transformers import PreTrainedModel, Trainer
from transformers.models.auto import auto_factory

import twin_merging

SOURCE = Path(twin_merging.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "private-apis.md"
# Public in spite of the underscore: the standard library documents them.
DOCUMENTED = {"_exit", "_fields"}
BY_TEXT = {"getattr", "setattr", "hasattr", "delattr", "wrap_function_wrapper"}  # their second argument is a name


def own_names(tree: ast.AST) -> Iterator[str]:
    """Names with an underscore that a module defines itself."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def used_names(tree: ast.AST) -> Iterator[str]:
    """Names with an underscore that a module asks of something else, by attribute, import or text."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name):
                yield name
            case ast.ImportFrom(names=names):
                yield from (alias.name for alias in names)
            case ast.Call(func=function, args=[_, ast.Constant(value=str(name)), *_]):
                if ast.unparse(function).rpartition(".")[2] in BY_TEXT:
                    yield name


def test_the_page_lists_every_private_name_that_the_code_uses() -> None:
    trees = [ast.parse(file.read_text()) for file in SOURCE.rglob("*.py")]
    own = {name for tree in trees for name in own_names(tree)}
    used = {name for tree in trees for name in used_names(tree) if re.match(r"_[a-z]", name)}
    # What a class of ours puts in the place of a private name of its base, such as the Trainer's.
    bases = {name for kind in (Trainer, PreTrainedModel) for name in vars(kind)}
    assigned = {
        target.id
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    bases |= {"_loglikelihood_tokens"}  # of lm-eval's TemplateLM, which is not installed with the rest
    replaced = {name for name in own | assigned if re.match(r"_[a-z]", name) and name in bases}
    listed = set(re.findall(r"\b_[a-z]\w+", PAGE.read_text()))
    assert (used - own - DOCUMENTED) | replaced == listed


def test_the_listed_names_are_still_there() -> None:
    assert "train_dataset" in inspect.signature(Trainer._get_train_sampler).parameters
    assert [*inspect.signature(auto_factory._get_model_class).parameters] == ["config", "model_mapping"]
    for name in ("_supports_sdpa", "_supports_flash_attn", "_supports_flex_attn", "_supports_attention_backend"):
        assert isinstance(vars(PreTrainedModel)[name], bool)
    assert [*inspect.signature(PersistenceBase._input).parameters] == ["self", "job"]
    assert {"_keys_to_ignore_on_load_unexpected", "_keys_to_ignore_on_load_missing"} <= set(vars(PreTrainedModel))


def test_snakemake_has_what_rules_of_shards_are_declared_by() -> None:
    import snakemake.api  # before its parts, which import each other
    from snakemake.ruleinfo import RuleInfo
    from snakemake.workflow import Workflow

    assert snakemake.api
    assert {"rules", "name_modifier"} <= set(inspect.signature(Workflow.userule).parameters)
    assert hasattr(Workflow, "modifier")
    assert hasattr(Workflow, "register_wildcard_constraints")
    assert {"output", "wildcard_constraints"} <= set(vars(RuleInfo()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_glibc_has_mallopt() -> None:
    assert ctypes.CDLL(None).mallopt(-3, 2**30) == 1
