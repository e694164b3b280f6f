# What each rule's output depends on beside its inputs: the `settings` parameter of every stage, in their order.


def model_settings(source):
    return settings("fetch", source=source, package_version=package_version(source))


def expert_settings(wildcards):
    task = task_of(wildcards)
    return {**model_settings(task["expert"]), "labels": task["labels"]}


def fetched_router_settings(wildcards):
    router = suite_of(wildcards).router_settings(wildcards.router)
    return settings("fetch", hub=what_is_fetched(router["hub"]))


def lock_settings(wildcards):
    """The suites to lock: the one that `--config lock=` names, or all that have Hub sources."""
    names = [CHECKED["lock"]] if CHECKED["lock"] else [file.stem for file in suite_files()]
    suites = [suite for name in names if any(hub_sources((suite := suite_named(name)).content))]
    if not suites:
        stop(
            f"{CHECKED['suites']}: no suite {CHECKED['lock'] or ''} with a Hub source to lock; name one: lock=SUITE"
        )
    return settings(
        "lock", suites=[str(suite.file) for suite in suites], schema=str(SCHEMAS / "suite.schema.yaml")
    )


def finetune_settings(wildcards):
    suite, task = suite_of(wildcards), task_of(wildcards)
    limits = suite.content["limits"]
    return settings(
        "finetune",
        **{key: task[key] for key in ("text", "labels", "metric")},
        finetune=task["expert"]["finetune"],
        limits={split: limits.get(split) for split in ("train", "validation")},
        seed=suite.content["seed"],
    )


def statistics_settings(wildcards):
    suite, task = suite_of(wildcards), task_of(wildcards)
    return settings(
        "training_statistics",
        kind=wildcards.kind,
        **{key: task[key] for key in ("text", "labels")},
        rows=suite.content["statistics"]["rows"],
        max_length=suite.content["inference"]["max_length"],
    )


def merge_settings(wildcards):
    """Without threads, which change no byte of a merged model."""
    suite = suite_of(wildcards)
    return {
        "entry": suite.methods[wildcards.method],
        "groups": dict(suite.protocol(wildcards.method).groups),
        "labels": of_tasks(suite, "labels"),
    }


def method_modules(suite, method):
    """Library modules that a method's entry names: its own, and that of the method it hands its vectors to."""
    then = suite.methods[method].get("then")
    return [suite.method(method).module, *([merging_methods()[then["method"]].module] if then else [])]


def compress_settings(wildcards):
    suite = suite_of(wildcards)
    return settings(
        "compress",
        sizes=suite.compression(wildcards.shared),
        groups=dict(suite.protocol(wildcards.shared).groups),
        coefficients=linear_coefficients(suite, wildcards.shared),
    )


def features_settings(wildcards):
    content = suite_of(wildcards).content
    return settings(
        "route",
        text=dict(sorted(of_tasks(suite_of(wildcards), "text").items())),
        limits={limit: content["limits"].get(limit) for limit in ("router", "validation")},
        inference=content["inference"],
        features=features_named(wildcards.features),
    )


def route_settings(wildcards):
    """The seed only for a kind of router that draws random numbers."""
    suite = suite_of(wildcards)
    router = suite.router_settings(wildcards.router)
    return settings(
        "route",
        tasks=list(suite.tasks),
        router=router,
        seed=suite.content["seed"] if router["kind"] in SEEDED and "hub" not in router else 0,
    )


def assemble_settings(wildcards):
    """A router that is the suite's is none of the method's own, however its options are written."""
    suite = suite_of(wildcards)
    entry, name = suite.methods[wildcards.method], suite.router_name(wildcards.method)
    router = suite.router_settings(name)
    return settings(
        "assemble",
        tasks=list(suite.tasks),
        entry={**entry, "router": None if name == entry["shared"] else router},
        head=suite.head(wildcards.method),
        router=router,
    )


def predict_settings(wildcards):
    suite, model = suite_of(wildcards), wildcards.model
    return settings(
        "predict",
        merged=model in suite.methods,
        body=model.removeprefix("expert-") if model.startswith("expert-") else None,
        head=suite.head(model) if model in suite.methods else "oracle",
        text=of_tasks(suite, "text"),
        labels=of_tasks(suite, "labels"),
        limit=suite.content["limits"].get("test"),
        inference=suite.content["inference"],
    )


def protocol_name(suite, model):
    """The protocol a model was made under; a model that is not merged has none."""
    return suite.methods[model]["protocol"] if model in suite.methods else "none"


def score_settings(wildcards):
    suite = suite_of(wildcards)
    return settings(
        "score",
        metrics=of_tasks(suite, "metric"),
        protocols={model: protocol_name(suite, model) for model in suite.models},
    )


def true_task(suite, model):
    """What a model is told of the task that a test row comes from: its private parameters, or nothing."""
    if model not in suite.methods:
        return "head"
    masks = ["masks"] if model in suite.masked else []
    return "nothing" if suite.head(model) == "routed" else "+".join([*suite.private_groups(model), *masks])


def card_settings(wildcards):
    suite = suite_of(wildcards)
    return settings(
        "card",
        name=wildcards.method,
        title=suite.content["title"],
        sources={"base": suite.content["base"], **of_tasks(suite, "expert")},
    )


def tabulate_settings(wildcards):
    suite = suite_of(wildcards)
    merged = {
        model: {"protocol": protocol_name(suite, model), "true_task": true_task(suite, model)}
        for model in ("pretrained", *suite.methods)
    }
    return settings(
        "tabulate",
        title=suite.content["title"],
        tasks=list(suite.tasks),
        dynamic=suite.dynamic,
        knowledge={**merged, "experts": {"protocol": "none", "true_task": "everything"}},
    )


def provenance_settings(wildcards):
    """The suite in full: what its audit holds the results against."""
    suite = suite_of(wildcards)
    models = {
        model: {"protocol": protocol_name(suite, model), "true_task": true_task(suite, model)}
        for model in suite.models
    }
    return settings(
        "provenance",
        suite={"name": suite.name, "file": str(suite.file), "content": suite.content},
        models=models,
        tables=outputs_of(jobs_of_tables(suite, "tabulate"), suite),
    )


def compare_settings(wildcards):
    suite = suite_of(wildcards)
    return settings("compare", title=suite.content["title"], tasks=list(suite.tasks))
