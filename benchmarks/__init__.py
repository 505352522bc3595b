"""What fastloss costs, beside the memory limit and every peer that is installed.

``cases`` is the table of rows, ``problem`` their arrays and right answers, ``contenders`` what is timed.
``pytest benchmarks`` times every contender by itself; ``python -m benchmarks.compare`` times them in turn, in
one process, and holds the ratios against their targets: its figures are the ones to quote.
"""
