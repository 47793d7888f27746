"""Ready-made studies, one TOML file each; `default.toml` is what runs if none is named."""
