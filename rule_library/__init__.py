"""Candidate plasticity terms and published rules, registered as anyone's could be."""
