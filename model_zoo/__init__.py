"""The official weights and where they are fetched from; two networks of our own."""
