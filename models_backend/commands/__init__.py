"""What `python -m models_backend` does, one file a subject. Prints and exits; the work is done by the rooms below."""
