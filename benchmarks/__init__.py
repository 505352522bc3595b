"""What fastloss costs, beside the memory limit and every peer that is installed.

``cases`` is the table of rows, ``problem`` their arrays and right answers, ``contenders`` what is timed;
those of the elementwise losses are in ``elementwise_cases`` and ``elementwise_contenders``, and so on for
``linear`` and ``post_training``. ``pytest benchmarks`` times every contender by itself; ``python -m
benchmarks.compare``, and ``elementwise``, ``linear`` or ``post_training`` in its place, time them in turn, in
one process, and hold the ratios against their targets: their figures are the ones to quote. ``runner`` is how
they do it.
"""
