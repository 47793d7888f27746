"""How configurations are chosen, run and remembered."""
