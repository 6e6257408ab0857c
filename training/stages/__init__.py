"""The stages of the method, a module each."""
