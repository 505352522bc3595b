"""The engine below the public modules: every rule on arguments, buffers, options and blocks, once.

No module here imports a public one.
"""
