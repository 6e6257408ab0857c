"""DenseCRF, in the same process or in processes of its own."""
