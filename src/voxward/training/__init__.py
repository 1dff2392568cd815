"""Setup, fit, validate, save."""
