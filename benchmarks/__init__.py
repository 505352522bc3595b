"""What fastloss costs, beside the memory limit and every peer that is installed.

``python -m benchmarks SUITE`` measures the rows of a suite: its contenders in turn, in one process, with
every result checked (``runner``). It compares the ratios with their targets and writes them as JSON
(``report``), from which ``python -m benchmarks tables`` makes the tables of the documentation (``tables``).
Those figures are the ones to quote. ``pytest benchmarks`` times every contender by itself.

``case`` says how a row is declared, ``contenders`` has the registry of what is timed, ``peers`` the peers,
and ``problem`` the arrays and right answers. Each module of ``suites`` declares its rows, their arrays, and
contenders of its own.
"""
