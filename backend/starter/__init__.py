"""How the shipped starter model is made: data, architecture and training (a backend door)."""
