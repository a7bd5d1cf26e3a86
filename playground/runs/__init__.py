"""Runs: start, follow, stop, add a lane; write down what has ended; replay and search. No sockets, no pages."""
