"""Masks of tagged photos: bundles, photos, masks, the store, and a client. Knows no torch, BentoML or Prefect."""
