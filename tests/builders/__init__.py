"""What the tests build: models in a registry, small Delta tables, and jobs, each a real one."""
