"""Books of a robustness benchmark: one record per attack on a case, and what can be read off many of them."""
