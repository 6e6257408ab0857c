"""The endpoints of Tagmask's own API; those of other protocols are in `kserve` and `label_studio`."""
