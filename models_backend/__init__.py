"""The GPU house: it turns queued runs into events. It never sees Django."""
