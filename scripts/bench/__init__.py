"""The benchmark: what applying a model costs, by contender, against the limit, in one run."""
