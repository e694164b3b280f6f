# Inputs that are more than a path: files of experts, models, and all tasks of a suite.


def expert_files(suite, task):
    """What an expert consists of: a checkpoint and its configuration, or an adapter and its."""
    names = ADAPTER if is_adapter(suite.tasks[task]["expert"]) else [*CONFIG, *WEIGHTS]
    return inside(f"results/{suite.name}/experts/{task}", *names)


def existing(*files):
    """Those files that are there."""
    return [str(file) for file in files if Path(file).is_file()]


def locked(wildcards, source):
    """What a Hub source's files are held against: a file that is there whether or not the suite has a lock, and that
    makes no job stale, since a lock changes no output, only what is accepted."""
    return [ancient(f"results/{wildcards.suite}/locked.json")] if "hub" in source else []


def outputs_of(jobs, suite):
    """All outputs of jobs of a suite as their rules declare them, but for the records."""
    declared = [(getattr(rules, job.rule).output, job) for job in jobs]
    return [
        path
        for output, job in declared
        for path in expand([file for file in output if file != output.record], suite=suite.name, **job.wildcards)
    ]


def all_expert_files(suite):
    return [file for task in suite.tasks for file in expert_files(suite, task)]


def training_data(wildcards):
    splits = ("train.parquet", "validation.parquet")
    return [
        f"results/{wildcards.suite}/data/{task}/{split}"
        for task in suite_of(wildcards).tasks
        for split in splits
    ]


def training_statistics(wildcards):
    """What a method needs of the experts' training rows: a file a task, for methods that need any."""
    suite = suite_of(wildcards)
    kind = suite.method(wildcards.method).statistics
    return [f"results/{suite.name}/statistics/{kind}/{task}.safetensors" for task in suite.tasks if kind]


def linear_coefficients(suite, shared):
    """Each task's coefficient where all experts are LoRA adapters and the shared expert is a linear sum of them."""
    if not all(is_adapter(task["expert"]) for task in suite.tasks.values()):
        return None
    return coefficients(suite.method(shared), suite.methods[shared], list(suite.tasks))


def compressed_from(wildcards):
    """Task vectors that a difference is made of: the task's own, or all for a linear sum of LoRA adapters."""
    suite = suite_of(wildcards)
    linear = linear_coefficients(suite, wildcards.shared)
    return [f"results/{suite.name}/task_vectors/{task}.safetensors" for task in linear or [wildcards.task]]


def assembled_from(wildcards):
    """Exclusive files of all tasks."""
    suite = suite_of(wildcards)
    shared = suite.methods[wildcards.method]["shared"]
    return [f"results/{suite.name}/exclusive/{shared}/{task}.safetensors" for task in suite.tasks]


def router_features(wildcards):
    """The hidden states that a router reads, of the shared expert that it belongs to."""
    name = features_name(suite_of(wildcards).router_settings(wildcards.router)["features"])
    return f"results/{wildcards.suite}/router/{wildcards.router.split('/')[0]}/features/{name}.safetensors"


def projected_exclusives(wildcards):
    """Exclusive files of all tasks for a router of kind projection, which reads them; none for the other kinds."""
    suite, shared = suite_of(wildcards), wildcards.router.split("/")[0]
    projects = suite.router_settings(wildcards.router)["kind"] == "projection"
    return [f"results/{suite.name}/exclusive/{shared}/{task}.safetensors" for task in suite.tasks if projects]


def fetched_router(wildcards):
    """The state of a router that was trained elsewhere; nothing for one that is made here."""
    suite, router = suite_of(wildcards), wildcards.router
    folder = f"results/{suite.name}/router/{router}"
    return [f"{folder}/fetched.safetensors"] if "hub" in suite.router_settings(router) else []


def folders(folder, *names):
    """Folders that a model's directory holds. Their time is not followed, and their content through merge.json, which
    has the sha256 of every file in them: Snakemake itself compares a folder by its time alone.
    """
    return [ancient(path) for path in inside(folder, *names)]


def shared_model(wildcards):
    shared = suite_of(wildcards).methods[wildcards.method]["shared"]
    folder = f"results/{wildcards.suite}/models/{shared}"
    return [*inside(folder, *CONFIG, *WEIGHTS, *TOKENIZER, "merge.json"), *folders(folder, "private")]


def model_files(wildcards):
    """What a model consists of: a merged model's directory, or base and experts for one that is not merged."""
    suite = suite_of(wildcards)
    model = wildcards.get("model", wildcards.get("method"))
    if model not in suite.methods:
        return [
            *inside(f"results/{suite.name}/base", *CONFIG, *WEIGHTS, *TOKENIZER),
            *all_expert_files(suite),
        ]
    folder = f"results/{suite.name}/models/{model}"
    unified = ["unified.safetensors"] if model in suite.masked else []
    parts = ["exclusive", "router"] if model in suite.dynamic else ["masks"] if model in suite.masked else []
    files = inside(folder, *CONFIG, *WEIGHTS, *TOKENIZER, "merge.json", *unified)
    return [*files, *folders(folder, "private", *parts)]


def own_router_metrics(wildcards):
    """Metrics of a dynamic method's router; nothing for another method."""
    suite, method = suite_of(wildcards), wildcards.method
    return (
        [f"results/{suite.name}/router/{suite.router_name(method)}/metrics.json"]
        if method in suite.dynamic
        else []
    )


def cards(name):
    """Cards of a suite's dynamic models."""
    return [f"results/{name}/models/{method}/README.md" for method in suite_named(name).dynamic]


def routed_predictions(wildcards):
    return [f"results/{wildcards.suite}/predictions/{model}.parquet" for model in suite_of(wildcards).dynamic]


def router_metrics(wildcards):
    suite = suite_of(wildcards)
    return [f"results/{suite.name}/router/{suite.router_name(model)}/metrics.json" for model in suite.dynamic]


def published_scores(wildcards):
    """The suite's file of published scores; ends the run when it names none, or one that is wrong."""
    from twin_merging.reporting.published import read_published

    suite = suite_of(wildcards)
    file = suite.content.get("published")
    if file is None:
        stop(f"{suite.file}: key 'published' is missing; name a file of published scores to compare with")
    try:
        read_published(Path(file), list(suite.tasks))
    except UserError as error:
        stop(error)
    return file
