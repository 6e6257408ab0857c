"""The command line `tagmask`; `main.py` puts it together."""
