"""Candidate plasticity terms and published rules, registered like those of any other package."""
