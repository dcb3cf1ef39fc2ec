"""The samples of a task: loaded, split, augmented, served in batches; the loss and the score of a task."""
