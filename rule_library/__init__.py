"""Candidate plasticity terms and published rules, registered as in any other package."""
