"""How a verdict, a table and a figure look."""
