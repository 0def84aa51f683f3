"""The conformance kit: does a strategy, of wtsbench or of another package, keep to what every strategy promises?

`python -m wtsbench.trial.conformance NAME ...` prints a verdict for every strategy as JSON; `wtsbench strategies check`
shows it. `checks.py` has the checks in order, `world.py` the constructed labels and the tiny model they run on.
"""
