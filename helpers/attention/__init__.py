"""What is computed: attention shapes, tile tables, and the specs and launches made from them."""
