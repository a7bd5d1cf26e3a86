"""Pages: HTML doors. Thin: they authorise, parse, call one service and render."""
