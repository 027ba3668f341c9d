"""Feedbacks, one per file; found through the entry point group `metaplast.feedbacks`."""
