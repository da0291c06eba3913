"""Programs that are built already: their device code found, taken out piece by piece, and told as rows."""
