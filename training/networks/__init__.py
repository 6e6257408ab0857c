"""The networks, how they start, and their export."""
