"""What a build is asked to do: the spec, read from TOML and validated once."""
