"""Doors for programs: JSON in, JSON out. Thin: they authorise, parse and call one service."""
