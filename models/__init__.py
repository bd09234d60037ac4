"""Networks, their training step, and what looks at them."""
