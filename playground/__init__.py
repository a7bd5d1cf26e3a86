"""The web house: pages, sockets and records. It never sees torch; it meets the workers only on the bus."""
