"""Published experiments: one module each, with its terms, data and claims."""
