"""What commands share on a terminal: options, tables, the live line, signals."""
