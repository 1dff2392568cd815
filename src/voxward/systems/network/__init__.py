"""A network that stands alone, and the pipeline around it as its user describes it."""
