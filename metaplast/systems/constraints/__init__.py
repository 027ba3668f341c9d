"""The constraints on weights that come with metaplast, one file each."""
