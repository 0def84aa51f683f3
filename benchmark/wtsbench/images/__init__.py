"""Container images of trials: built, named by digest, verified, carried."""
