"""Lets transformers' Auto classes and pipelines find merged models, once `twin_merging.register()` is called.

A merged model's config.json is its architecture's own, so that `AutoModel` reads the shared body; as its class it names
`TwinForSequenceClassification` or `TwinForCausalLM`. transformers chooses a class by the type of the configuration, of
which a name in `architectures` may choose one of several: here it may choose a merged model's for any architecture.
Every other model keeps its own.
"""

from __future__ import annotations

from typing import Any

AUTO = "transformers.models.auto"


class _Stand:
    """Stands for a class of merged models, so that torch is not imported before it is needed."""

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        import twin_merging

        return getattr(twin_merging, cls.__name__).from_pretrained(*arguments, **options)


class TwinForSequenceClassification(_Stand):
    pass


class TwinForCausalLM(_Stand):
    pass


STANDS = {
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING": TwinForSequenceClassification,
    "MODEL_FOR_CAUSAL_LM_MAPPING": TwinForCausalLM,
}


_registered = False


def register() -> None:
    """Let `AutoModelForSequenceClassification`, `AutoModelForCausalLM` and pipelines load merged models.

    Takes effect now if transformers' Auto classes are loaded, else when they are. A second call changes nothing.
    Importing this package registers nothing: `TwinModel.from_pretrained` needs no registration.
    """
    global _registered
    if _registered:
        return
    _registered = True
    import wrapt

    wrapt.register_post_import_hook(_register_classes, f"{AUTO}.auto_factory")
    wrapt.register_post_import_hook(_register_names, f"{AUTO}.modeling_auto")


def _register_classes(auto_factory: Any) -> None:
    import wrapt

    wrapt.wrap_function_wrapper(auto_factory, "_get_model_class", _class_of)


def _class_of(usual: Any, _: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The class of a configuration, in a mapping of one kind of model."""
    from transformers.models.auto import modeling_auto

    def of(config: Any, model_mapping: Any) -> Any:
        for name, stand in STANDS.items():
            if model_mapping is getattr(modeling_auto, name) and stand.__name__ in (config.architectures or []):
                return stand
        return usual(config, model_mapping)

    return of(*arguments, **named)


def _register_names(modeling_auto: Any) -> None:
    """Pipelines know the classes that they take by name."""
    for name, stand in STANDS.items():
        getattr(modeling_auto, f"{name}_NAMES")["twin-merging"] = stand.__name__
