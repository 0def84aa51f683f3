"""An example of a package that adds a strategy to wtsbench."""
