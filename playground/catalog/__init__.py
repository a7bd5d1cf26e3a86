"""Plain facts that several rooms read. No decisions, no records, no input or output."""
