"""Two complete sites on one computer."""
