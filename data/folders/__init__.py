"""The user's own picture files: finding, preparing and splitting them."""
