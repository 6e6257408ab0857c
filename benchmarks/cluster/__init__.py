"""A cluster on one machine whose parts are killed in turn."""
