"""The results store: courier, client, engine, server and upkeep. Importing the package imports none of them."""
