"""Benchmarks of fastloss beside the memory limit and every installed peer.

``python -m benchmarks SUITE`` measures the rows of a suite: its contenders in turn, in one process, with
every result checked (``runner``). It compares the ratios with their targets and writes them as JSON
(``report``), from which ``python -m benchmarks tables`` makes the tables of the documentation (``tables``).
Those figures are the ones to quote. ``pytest benchmarks`` times every contender by itself. ``python -m
benchmarks pictures`` draws results (``pictures``).

An installed fastloss has this package as ``fastloss._benchmarks``, for ``python -m fastloss bench``
(``bench``). So its modules import each other relatively.

``case`` has the declaration of a row, ``contenders`` the registry of contenders, ``peers`` the peers, and
``problem`` the arrays and expected results. Each module of ``suites`` declares its rows, their arrays, and
its own contenders.
"""
