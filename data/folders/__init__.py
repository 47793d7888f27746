"""People's own picture files: found, prepared alike, and divided into parts."""
