"""Ask the GCS of a Ray cluster one question: `python ray_probe.py ADDRESS`, with RAY_AUTH_MODE in the environment.

A process of its own, for who asks (`ray_access`): Ray reads that variable once, waits for 40 s at an address where
something else listens, and ends a process that should send a token and has none. It imports nothing of wtsbench.
"""

import sys

ANSWERED, REFUSED, NO_TOKEN = 0, 10, 11
"""Exit codes; any other: no cluster answers."""


def main(address: str) -> int:
    """Whether the cluster takes what this process would send: no token, or the one that Ray finds here."""
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import (  # type: ignore[attr-defined]  # compiled
        AuthenticationMode,
        AuthenticationTokenLoader,
        GcsClient,
        get_authentication_mode,
    )
    from ray.exceptions import AuthenticationError

    if get_authentication_mode() == AuthenticationMode.TOKEN:
        try:
            found = AuthenticationTokenLoader.instance().has_token()
        except AuthenticationError:  # RAY_AUTH_TOKEN_PATH names a file that cannot be read, or is empty
            found = False
        if not found:
            return NO_TOKEN
    gcs = canonicalize_bootstrap_address(address)
    if gcs is None:
        raise ConnectionError("no cluster was started on this machine")
    try:
        GcsClient(address=gcs).check_alive([], timeout=5)
    except AuthenticationError:
        return REFUSED
    return ANSWERED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
