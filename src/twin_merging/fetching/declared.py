"""Sources as a suite declares them, each kind a model: the Hub, a folder, an installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from twin_merging.checkpoints.adapter_settings import ADAPTER_CONFIG
from twin_merging.errors import UserError
from twin_merging.fetching.packages import package_folder, package_version
from twin_merging.io.fields import ABSENT, FilledText, Flag, Text, problem
from twin_merging.io.foreign import is_gguf
from twin_merging.io.sizes import SIZE, bytes_of
from twin_merging.io.validation import Model

_REVISION = (
    "a commit, tag or branch. A commit gives the same model for ever; the commit that a branch stood for is recorded "
    "in `source.json`"
)

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPE: Any = Field(
    "float32",
    description="what models are evaluated in, and the router's features computed in, whatever they are stored in; not "
    "a source itself",
)

_SUBFOLDER = "base and expert: the folder of the repository that holds the model"


def _repository(name: str) -> str:
    owner, slash, own = name.partition("/")
    if not (owner and slash and own) or "/" in own or any(letter.isspace() for letter in name):
        raise problem(f"'{name}' must have the form owner/name")
    return name


def _size(text: str) -> str:
    try:
        bytes_of(text)
    except ValueError as error:
        raise problem(str(error)) from None
    return text


class _Repository:
    """A marker of a repository's name."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(_repository, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "pattern": r"^[^/\s]+/[^/\s]+$"}


class _Size:
    """A marker of a number of bytes with its unit."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(_size, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^{SIZE.pattern}$"}


Size = Annotated[Annotated[str, _Size()] | None, ABSENT]
SIZE_OF_SOURCE: Any = Field(
    None,
    description="how large its files are, as `499MB` or `15.2GB`: what jobs ask of their machine is computed from it "
    "([docs/scaling.md](../docs/scaling.md)). A lock knows it too. Changes no tensor: above "
    "`max_shard_size` it says in how many files a model is written. Not a source itself",
)


class Hub(Model):
    """A repository on the Hugging Face Hub."""

    repo: Annotated[Text, _Repository()] = Field(description="owner and name")
    revision: Text = Field("main", description=_REVISION)


class BaseHub(Hub):
    subfolder: Annotated[str | None, ABSENT] = Field(None, description=_SUBFOLDER)

    def plain(self) -> dict[str, Any]:
        return {**super().plain(), "adapter": False}


class ExpertHub(Hub):
    subfolder: Annotated[str | None, ABSENT] = Field(None, description=_SUBFOLDER)
    adapter: Flag = Field(False, description="expert: the repository holds a PEFT adapter")


class DataHub(Hub):
    config: Annotated[str | None, ABSENT] = Field(
        None, description="data: the configuration of the data set, as `cola` of `nyu-mll/glue`"
    )

    def plain(self) -> dict[str, Any]:
        return {**super().plain(), "adapter": False}


class RouterHub(Hub):
    """A router that was trained elsewhere."""

    subfolder: Annotated[str | None, ABSENT] = Field(
        None, description="the folder of the repository that holds the file"
    )
    file: Annotated[str | None, ABSENT] = Field(
        None,
        description="the file; not needed where only one can hold a state (`.safetensors`, `.bin`, `.pt`, `.pth`)",
    )
    tasks: Annotated[tuple[Text, ...] | None, Field(min_length=1), ABSENT] = Field(
        None, description="the tasks in the order of its outputs, where that is not the suite's"
    )


class Package(Model):
    name: Text = Field(description="the package's name; it is not imported, and not installed for you")
    path: Text = Field(description="the model's folder inside the package, or its GGUF file")


class Source(Model):
    """A source of a base, an expert or data; its first key says of which kind it is."""

    def plain(self) -> dict[str, Any]:
        """Without its size, which no output depends on."""
        return {key: value for key, value in super().plain().items() if key != "size"}

    def origin(self) -> dict[str, Any]:
        """Where it comes from, as plain data: without what is said of its use."""
        return {key: value for key, value in self.plain().items() if key != "dtype"}

    @property
    def is_made_here(self) -> bool:
        """Whether the workflow makes it; else it is fetched."""
        return False

    @property
    def is_adapter(self) -> bool:
        """Whether an expert from here is a LoRA adapter, as far as its suite and local files say."""
        return False

    @property
    def package_version(self) -> str | None:
        """Version of the package that the source names; None for another kind, or where it is not installed."""
        return None

    @property
    def folder(self) -> Path | None:
        """The local folder that holds a model; None where it has to be fetched first."""
        return None

    def files(self) -> list[str]:
        """Local files that the source consists of, for a workflow to follow. Raises UserError when there are none."""
        return []


class BaseFromHub(Source):
    hub: BaseHub = Field(description="a model repository on the Hugging Face Hub")
    dtype: Dtype = DTYPE
    size: Size = SIZE_OF_SOURCE


class ExpertFromHub(Source):
    hub: ExpertHub = Field(description="a model or PEFT adapter repository on the Hugging Face Hub")
    size: Size = SIZE_OF_SOURCE

    @property
    def is_adapter(self) -> bool:
        return self.hub.adapter


class FromPath(Source):
    path: FilledText = Field(description="a local folder with a model and its tokenizer")

    @property
    def folder(self) -> Path | None:
        return Path(self.path)

    @property
    def is_adapter(self) -> bool:
        return Path(self.path, ADAPTER_CONFIG).is_file()

    def files(self) -> list[str]:
        return [self.path] if is_gguf(Path(self.path)) else folder_files(self.path)


class FromPackage(Source):
    package: Package = Field(description="a model that an installed Python package carries")

    @property
    def package_version(self) -> str | None:
        return package_version(self.package.name)

    @property
    def folder(self) -> Path | None:
        return None if self.package_version is None else package_folder(self.package.name, self.package.path)


class BaseFromPath(FromPath):
    path: FilledText = Field(
        description="a local folder with a model and its tokenizer, or a GGUF file: `base: {path: models/base}`"
    )
    dtype: Dtype = DTYPE
    size: Size = SIZE_OF_SOURCE


class BaseFromPackage(FromPackage):
    dtype: Dtype = DTYPE
    size: Size = SIZE_OF_SOURCE


class ExpertFromPath(FromPath):
    path: FilledText = Field(
        description="a local folder with a fine-tuned model, a GGUF file, or a folder with a LoRA adapter (known by "
        "its `adapter_config.json`) and its head"
    )
    size: Size = SIZE_OF_SOURCE


class ExpertFromPackage(FromPackage):
    package: Package = Field(description="a fine-tuned model that an installed Python package carries")
    size: Size = SIZE_OF_SOURCE


class Splits(Model):
    """Which split of the source serves which use."""

    train: Text = Field("train", description="rows to train experts and routers on")
    validation: Text = Field("validation", description="held-out rows")
    test: Text = Field("test", description="rows that the table's scores are of")


class PromptedSplits(Splits):
    """The same for a language model."""

    shots: Annotated[str | None, Field(min_length=1), ABSENT] = Field(
        None,
        description="language models: rows that in-context examples are drawn from; without it they are train rows",
    )


_SPLITS = "which split of the source serves which use; not a source itself"


class DataFromHub(Source):
    hub: DataHub = Field(description="a data set repository on the Hugging Face Hub")
    splits: Splits = Field(Splits(), description=_SPLITS)
    size: Size = SIZE_OF_SOURCE


class DataFromPath(Source):
    path: FilledText = Field(
        description="a local folder with one file a split: `train.parquet`, `.jsonl`, `.json` or `.csv`"
    )
    splits: Splits = Field(Splits(), description=_SPLITS)

    def files(self) -> list[str]:
        return folder_files(self.path)


class PromptedFromHub(DataFromHub):
    splits: PromptedSplits = Field(PromptedSplits(), description=_SPLITS)


class PromptedFromPath(DataFromPath):
    splits: PromptedSplits = Field(PromptedSplits(), description=_SPLITS)


def folder_files(folder: str) -> list[str]:
    """The files of a local folder, sorted. Raises UserError when there are none."""
    path = Path(folder)
    files = sorted(str(file) for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    if not files:
        raise UserError(f"path '{path}' is not a folder with files (relative paths start at the working directory)")
    return files
