"""Many runs at once, on this machine's cores or a Ray cluster, each resumable."""
