"""A run: what happens when, its ledger, and how it resumes."""
