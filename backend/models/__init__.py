"""What a base model is: profiles (settings) and loading (networks)."""
