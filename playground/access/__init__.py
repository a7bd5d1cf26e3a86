"""Who may touch what: signing in, and the only way to fetch a record for a person. Knows no runs and no pages."""
