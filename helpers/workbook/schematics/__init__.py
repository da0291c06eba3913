"""Schematics: drawings of what the pages explain, each made from the values that its page has."""
