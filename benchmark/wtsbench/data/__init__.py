"""Preparing tasks' data: from a canonical source or a mirror to items, deduplicated, grouped and split.

Only this package imports `datasets`, and only to read rows: not when the prepared items are in the cache.
"""

from wtsbench.data.dataset import Dataset, digest_items
from wtsbench.data.prepare import prepare

__all__ = ["Dataset", "digest_items", "prepare"]
