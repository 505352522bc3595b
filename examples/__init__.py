"""Worked examples for fastloss, each one a script that also runs as a module."""
