"""The demo's loop, on drawn photos: a model learns without one class, is served, and learns that class while it serves.

service     the service as `make serve` starts it, and a light load on it
running     a flow run from a program, and of its log what is of use on a terminal
__main__    the demo itself, in the two parts that `make demo` runs
"""
