"""`python -m wtsbench.trial.conformance NAME ...`: verdicts on strategies, as JSON on standard output."""

import sys

from wtsbench.trial import environment

if __name__ == "__main__":
    environment.prepare()
    from wtsbench.trial.conformance.checks import main

    sys.exit(main(sys.argv[1:]))
