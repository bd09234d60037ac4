"""Training batches and test images."""
