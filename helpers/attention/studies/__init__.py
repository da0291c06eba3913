"""Sets of specs that notebooks and recordings compile: the incident, the cliff map, the tile audit."""
