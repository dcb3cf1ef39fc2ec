"""The samples of a task: loaded, split, augmented, served in batches; and what a task minimises."""
