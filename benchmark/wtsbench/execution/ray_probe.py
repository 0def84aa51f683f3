"""Ask the GCS of a Ray cluster one question: `python ray_probe.py ADDRESS`, with RAY_AUTH_MODE in the environment.

`ray_access` runs it as a process of its own, because Ray reads that variable only once, waits 40 s at an address where
something else listens, and ends a process that should send a token and has none. It imports nothing of wtsbench.
"""

import sys
from typing import Any

ANSWERED, REFUSED, NO_TOKEN, OTHER_VERSIONS = 0, 10, 11, 12
"""Exit codes; any other means that no cluster answers. At the last, standard output names the cluster's versions."""


def main(address: str) -> int:
    """Whether the cluster accepts what this process would send: no token, or the one that Ray finds here."""
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
            has_token = AuthenticationTokenLoader.instance().has_token()
        except AuthenticationError:  # RAY_AUTH_TOKEN_PATH names a file that cannot be read, or is empty
            has_token = False
        if not has_token:
            return NO_TOKEN
    gcs = canonicalize_bootstrap_address(address)
    if gcs is None:
        raise ConnectionError("no cluster was started on this machine")
    try:
        GcsClient(address=gcs).check_alive([], timeout=5)
    except AuthenticationError:
        return REFUSED
    return ANSWERED if _same_versions(GcsClient(address=gcs)) else OTHER_VERSIONS


def _same_versions(gcs: Any) -> bool:
    """Whether Ray would let this process in, whose Ray and Python must be the cluster's."""
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._private.utils import check_version_info

    try:
        about = get_cluster_metadata(gcs)
    except AttributeError:  # a cluster that was never told its versions has none
        return True
    try:
        check_version_info(about, "this machine")
    except RuntimeError:
        print(f"Ray {about['ray_version']} on Python {about['python_version']}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
