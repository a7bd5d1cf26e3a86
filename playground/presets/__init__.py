"""Presets: save, version, rename, duplicate, delete and bring back, share by link. Knows no pages and no bus."""
