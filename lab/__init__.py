"""Two whole sites on one computer."""
