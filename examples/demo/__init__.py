"""The demo: drawn photos, a model without one class, and that class learned while the service runs."""
