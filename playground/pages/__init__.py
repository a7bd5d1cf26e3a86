"""HTML doors: each authorises, parses, calls one service and renders. They know no bus and hold no rules."""
