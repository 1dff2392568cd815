"""A small web server for one report: who may ask, which files there are, and how they are sent."""
