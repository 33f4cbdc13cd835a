"""Six tasks with sparse rewards and few demonstrations: which method solves them? See benchmarks/README.md."""
