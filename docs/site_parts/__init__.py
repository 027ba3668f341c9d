"""What builds the documentation site, besides Sphinx: one module for each thing."""
