"""Examples for fastloss. Each one is a script that also runs as a module."""
