"""What is wrong with data or recipe, found before a long run."""
