"""Ready-made studies, one TOML file each; `default.toml` is what runs when none is named."""
