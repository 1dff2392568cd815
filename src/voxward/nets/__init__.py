"""Networks. They return logits."""
