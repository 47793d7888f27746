"""What the commands do, as functions for notebooks; `search` gives the public ones by name."""
