"""Figures and pages that show the results."""
