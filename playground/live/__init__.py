"""The websocket door. Thin: it authorises, parses, calls a service and forwards events; `frames.py` is the wire."""
