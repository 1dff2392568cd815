"""Training losses on logits."""
