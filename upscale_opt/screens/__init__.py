"""Text for terminals: lines, tables and bars that fit the width of the screen. It knows nothing about networks."""
