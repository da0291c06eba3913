"""What a PTX says: its lines, registers, control flow, and the demand on registers at each line."""
