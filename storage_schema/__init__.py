"""What an atlas is on disk: keys, records, arrays, tables, and how they are written and read."""
