"""Native kernels for CPUs, and what decides whether they are used.

Each has a twin in plain JAX, in the module that calls it, which runs everywhere else and which
the tests compare it with.
"""
