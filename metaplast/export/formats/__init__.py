"""The formats that come with metaplast, one file each."""
