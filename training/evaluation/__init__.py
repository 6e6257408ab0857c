"""How good masks and bundles are."""
