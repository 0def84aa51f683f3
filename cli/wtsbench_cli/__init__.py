"""The command line of wtsbench: one module per verb, which translates between the user and the library."""
