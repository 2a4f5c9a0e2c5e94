"""The read model of usage. `__version__` is the version of the whole project."""

__version__ = "0.9.0"
