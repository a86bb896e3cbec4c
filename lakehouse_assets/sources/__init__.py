"""Where change streams come from: landing files and databases."""
