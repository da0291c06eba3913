"""The frame of every explorer: controls, work in a thread, pictures, the basket."""
