"""What `fastloss.curve` is made of: reading logs, the detectors, the power law and the picture.

Nothing here imports a face. NumPy alone is needed; matplotlib is imported where a picture is drawn.
"""
