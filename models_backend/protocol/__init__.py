"""What crosses the bus between the web and the workers: runs, parameters, events, and the scripts that move them.

The only package that both houses import. It knows no torch and no Django, opens no connection, and holds no state.
"""
