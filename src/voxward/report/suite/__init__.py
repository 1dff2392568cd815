"""What a suite found, as tables, charts and a page."""
