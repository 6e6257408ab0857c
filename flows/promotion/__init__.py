"""From a finished training to the champion: comparison, gate, publication."""
