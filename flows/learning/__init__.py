"""A training as a flow: its steps as tasks, whose results are kept by what went into them."""
