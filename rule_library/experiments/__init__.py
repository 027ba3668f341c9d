"""Published experiments, one module each; each names its terms, data and claims."""
