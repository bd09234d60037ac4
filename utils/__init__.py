"""What is neither a network nor a dataset: options, images, evaluation, task folders, reports, processes."""
