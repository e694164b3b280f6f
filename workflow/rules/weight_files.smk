# Whole models that are written in shards: for each rule that writes one, a rule that declares the shards and their index in
# the place of the one file, and is for those suites alone that have so many. Records, logs and settings are the rule's own.

for name in weight_files.FOLDERS:
    for count in sorted(set(SHARDED.values())):
        declare_shards(name, count)
