"""How one configuration is trained. No Optuna, no database, no files but checkpoints."""
