"""The worker: it claims queued runs, hands them to an engine, and appends what the engine says to the run's log.

It knows the bus and the engines' interface; it knows nothing of weights, templates or tokens.
"""
