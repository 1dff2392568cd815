"""How many pieces of work are done: in this process, shared with others through a folder."""
