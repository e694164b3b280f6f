"""Routers that read an early layer, and one-pass models: the pass that answers computes the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.dense_twin import DenseLanguageModel, DenseTwin, alone, mixed_batch, router_of
from tests.tiny import config_of
from twin_merging.checkpoints.architectures import before_layer
from twin_merging.model.twin import TwinModel
from twin_merging.routing.features import features_of
from twin_merging.routing.layers import features_name, layers_of, normal_form

SPECS: list[Any] = ["last", "embedding", {"layer": 1}, {"layers": [0, 1, 2]}]


def test_features_have_one_name_for_one_meaning() -> None:
    names = [features_name(spec) for spec in [*SPECS, {"layer": 0}, {"layers": [2, 0, 2]}, {"layers": [1]}]]
    assert names == ["last", "embedding", "layer-1", "layers-0-1-2", "embedding", "layers-0-2", "layer-1"]
    assert normal_form({"layers": [0]}) == "embedding"
    assert [layers_of(spec, 2) for spec in SPECS] == [[2], [0], [1], [0, 1, 2]]
    with pytest.raises(ValueError, match="layer 3 is asked for, but the body has 2 layers"):
        layers_of({"layers": [1, 3]}, 2)
    with pytest.raises(ValueError, match="exactly one of layer, layers"):
        normal_form({"layer": 1, "layers": [1]})


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("model_type", ["roberta", "electra", "qwen2", "gpt2"])
def test_features_are_means_of_an_encoders_hidden_states_and_a_decoders_last(model_type: str, spec: Any) -> None:
    causal = model_type in ("qwen2", "gpt2")
    dense: Any = DenseLanguageModel(model_type, 0.25) if causal else DenseTwin(model_type, "strict", 0.25)
    body = dense.shared.base_model if causal else dense.body
    batch, _, _ = mixed_batch(left=False)
    with torch.no_grad():
        found = features_of(body, spec, **batch)
        for row in range(6):
            own = alone(batch, row)
            states = body(**own, output_hidden_states=True)
            hidden = [*states.hidden_states[:-1], states.last_hidden_state]
            parts = [hidden[k][0, -1] if causal else hidden[k][0].mean(0) for k in layers_of(spec, 2)]
            torch.testing.assert_close(found[row], torch.cat(parts), rtol=1e-5, atol=1e-6)


def test_layers_that_nobody_reads_are_not_run() -> None:
    dense = DenseTwin("roberta", "strict", 0.25)
    batch, _, _ = mixed_batch()
    ran = []
    for number, layer in enumerate(dense.body.encoder.layer):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    with torch.no_grad():
        features_of(dense.body, "embedding", **batch)
        assert ran == []
        features_of(dense.body, {"layer": 1}, **batch)
    assert ran == [0]


def without_early_parts(dense: DenseTwin, layer: int) -> None:
    """Drop from the oracle what a one-pass model leaves shared, which is to be found by the running order alone."""
    ran: list[str] = []
    hooks = []
    for path, part in dense.body.named_modules():
        hooks.append(part.register_forward_hook(lambda *_, path=path: ran.append(path)))
    stop = dense.body.encoder.layer[layer]
    early: list[str] = []
    hooks.append(stop.register_forward_pre_hook(lambda *_: early.extend(ran)))
    with torch.no_grad():
        dense.body(**mixed_batch()[0])
    for hook in hooks:
        hook.remove()
    for task in dense.exclusive:
        for own in (dense.exclusive[task].factors, dense.exclusive[task].vectors):
            for name in [name for name in own if name.rpartition(".")[0] in early]:
                del own[name]
        for name in [name for name in dense.private[task] if name.rpartition(".")[0] in early]:
            dense.private[task][name] = dense.body.get_parameter(name).detach()


@pytest.mark.parametrize("protocol", ["reference", "strict"])
@pytest.mark.parametrize("spec", ["embedding", {"layer": 1}])
@pytest.mark.parametrize("model_type", ["roberta", "electra"])
def test_one_pass_routes_at_its_layer_and_gates_everything_after_it(model_type: str, spec: Any, protocol: str) -> None:
    dense = DenseTwin(model_type, protocol, 0.25)
    batch, _, tasks = mixed_batch()
    router = router_of(config_of(model_type).hidden_size, spec)
    model = dense.twin(router, onepass=True)
    assert_weights = model.route(**batch)
    with torch.no_grad():
        answer = model(**batch, tasks=tasks)
        wanted = router.weights(features_of(dense.body, spec, **batch))
    torch.testing.assert_close(answer.weights, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(assert_weights, wanted, rtol=1e-5, atol=1e-6)
    without_early_parts(dense, 0 if spec == "embedding" else 1)
    for row, task in enumerate(tasks):
        explicit = dense.explicit(wanted[row], task, **alone(batch, row))
        torch.testing.assert_close(answer.logits[row, : len(explicit)], explicit, rtol=1e-5, atol=1e-5)


def test_one_pass_runs_every_layer_once_and_two_passes_run_them_twice() -> None:
    dense = DenseTwin("roberta", "strict", 0.25)
    batch, _, _ = mixed_batch()
    counts = {}
    for onepass, spec in ((True, "embedding"), (False, "embedding"), (False, "last")):
        model = dense.twin(router_of(config_of("roberta").hidden_size, spec), onepass=onepass)
        ran: list[int] = []
        for layer in model.body.encoder.layer:
            layer.register_forward_hook(lambda *_, ran=ran: ran.append(1))
        with torch.no_grad():
            model(**batch)
        counts[onepass, spec] = len(ran)
    assert counts == {(True, "embedding"): 2, (False, "embedding"): 2, (False, "last"): 4}


def test_one_pass_with_one_task_a_row_and_rows_in_any_order() -> None:
    dense = DenseTwin("roberta", "strict", 0.25)
    batch, _, _ = mixed_batch()
    router = router_of(config_of("roberta").hidden_size, "embedding", top_k=1)
    with torch.no_grad():
        answer = dense.twin(router, onepass=True)(**batch)
        named = [list(dense.private)[n] for n in answer.weights.argmax(1)]
        again = dense.twin(router, onepass=True)(**batch, weights=answer.weights, tasks=named)
    assert (answer.weights.amax(1) == 1).all()
    torch.testing.assert_close(answer.logits, again.logits, rtol=1e-5, atol=1e-5)


def test_a_language_model_answers_in_one_pass_too() -> None:
    dense = DenseLanguageModel("qwen2", 0.5)
    batch, _, _ = mixed_batch(left=True)
    model = dense.twin(router_of(dense.config.hidden_size, {"layer": 1}), onepass=True)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 1}
    with torch.no_grad():
        answer = model(**batch)
        again = model(**batch, weights=model.route(**batch))
    torch.testing.assert_close(answer.logits, again.logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(model.generate(**batch, **options), model.generate(**batch, weights=answer.weights, **options))


def test_one_pass_needs_one_layer_to_read() -> None:
    dense = DenseTwin("roberta", "strict", 0.25)
    for spec in ("last", {"layers": [0, 1]}):
        with pytest.raises(ValueError, match="the embedding or one layer"):
            dense.twin(router_of(config_of("roberta").hidden_size, spec), onepass=True)
    names = [name for name, _ in dense.body.named_parameters()]
    assert before_layer(names, dense.body, 1) >= {"embeddings.LayerNorm.weight", "encoder.layer.0.output.dense.bias"}
    assert issubclass(type(dense.twin()), TwinModel)
