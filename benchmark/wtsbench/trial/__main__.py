"""`python -m wtsbench.trial DIR`: run the trial of a trial folder by hand, without a supervisor."""

import sys
from pathlib import Path

from wtsbench.contract.folder import ExitCode, FolderLayout
from wtsbench.trial import environment


def main(arguments: list[str]) -> int:
    """Run one trial; 0 done, 1 failed with a failure in `result.json`, 2 wrong use, anything else no result."""
    if len(arguments) != 1 or not FolderLayout(Path(arguments[0])).spec.is_file():
        print("usage: python -m wtsbench.trial DIR   (DIR is a trial folder, with spec.json)", file=sys.stderr)
        return ExitCode.NO_FOLDER
    environment.prepare()
    from wtsbench.trial.run import run_folder

    return run_folder(Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
