"""From a grid to its plan, a DAG of content-addressed trials. Pure functions of what other packages resolved."""
