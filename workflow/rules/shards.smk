# Whole models that are written in shards: for each rule that writes one, a rule that declares the shards and their index in
# the place of the one file, and is for those suites alone that have so many. Records, logs and settings are the rule's own.


def declare_shards(name, count):
    """What `use rule {name} as {name}_in_{count} with: output: ..., wildcard_constraints: ...` does. That statement takes no
    name that is computed."""
    original = workflow.get_rule(workflow.modifier.modify_rulename(name)).ruleinfo
    files = [f"{shards.FOLDERS[name]}/{file}" for file in shards.file_names(count)]
    suite = original.wildcard_constraints[1]["suite"].removeprefix(in_one_file(""))

    @workflow.userule(rules=[name], name_modifier=shards.variant(name, count))
    @workflow.output(**{**original.output.kwpaths, "weights": files})
    @workflow.register_wildcard_constraints(suite=constraints.in_shards(SHARDED, count, suite))
    @workflow.run
    def declared():
        pass


for name in shards.FOLDERS:
    for count in sorted(set(SHARDED.values())):
        declare_shards(name, count)
